"""How commands take the results folder: as an argument or by `--results`, and also a sweep's own folder in it."""

import inspect
import shlex
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from study.errors import BadInputError
from study.record.results import PARTS_OF_A_SWEEP, Results
from study.storage.location import public, split

DEFAULT = "results"
Positional = Annotated[
    str | None,
    typer.Argument(metavar="RESULTS", help="The results folder, a local path or a URI; by default results."),
]
Named = Annotated[
    str | None, typer.Option("--results", metavar="DIR|URI", help="The same, as the commands of sweeps take it.")
]


def takes_results(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that has `results: str`, and perhaps `sweep`, the ways in which a user may name them.

    A sweep's own folder stands for the results folder that it is in, and for that sweep.
    """
    signature = inspect.signature(command)

    @wraps(command)
    def wrapper(results: str | None = None, results_option: str | None = None, **others: Any) -> None:
        given, sweep = _resolve(_one_of(results, results_option))
        if sweep is not None:
            if "sweep" not in signature.parameters:
                raise BadInputError(f"{public(given)!r} is what is wanted here, and not the folder of {sweep} in it.")
            if others.get("sweep") not in (None, sweep):
                raise BadInputError(
                    f"--sweep {others['sweep']} is not in the folder of {sweep}; name the one above it."
                )
            others["sweep"] = sweep
        command(results=given, **others)

    parameters = [
        parameter.replace(annotation=Positional, default=None) if name == "results" else parameter
        for name, parameter in signature.parameters.items()
    ]
    option = inspect.Parameter("results_option", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Named)
    wrapper.__signature__ = signature.replace(parameters=[*parameters, option])  # type: ignore[attr-defined]
    wrapper.__annotations__ = {**command.__annotations__, "results": Positional, "results_option": Named}
    return wrapper


def _one_of(positional: str | None, named: str | None) -> str:
    """Return the folder that is named once, or twice alike.

    Raises:
        BadInputError: two are named.
    """
    if None not in (positional, named) and positional != named:
        raise BadInputError(f"two results folders are named, {public(str(positional))!r} and {public(str(named))!r}.")
    return positional or named or DEFAULT


def _resolve(location: str) -> tuple[str, str | None]:
    """Return the results folder, and the sweep whose own folder it is that was named; None where it was none."""
    results = Results.at(location)
    if not results.exists() or not set(PARTS_OF_A_SWEEP) & set(results.store.folders()) or results.sweeps():
        return location, None
    # Of `.` or `quickstart` only the whole path says what is above it.
    return split(location if "/" in location.strip("/.") else results.location)


def next_command(*arguments: str) -> str:
    """Return what a user may want next, as a line to copy."""
    return f"next: python -m analysis {shlex.join(public(argument) for argument in arguments)}"
