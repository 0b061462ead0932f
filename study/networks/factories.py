"""Networks that are the user's own: `module:factory`, a callable that makes the network.

Nothing here imports torch, so a plan can be checked on any machine.
"""

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from study.errors import BadInputError, unknown

FORM = "MODULE:FACTORY"
_NAME = r"[^\W\d]\w*"
_SYNTAX = re.compile(rf"({_NAME}(?:\.{_NAME})*):({_NAME})")


def split(architecture: str) -> tuple[str, str] | None:
    """The module and the factory of `module:factory`; None for the name of a built-in network."""
    found = _SYNTAX.fullmatch(architecture)
    return (found[1], found[2]) if found else None


def load(architecture: str) -> Callable[..., Any]:
    """The factory of `module:factory`, imported as by `python -m`: the current directory comes first.

    Raises:
        BadInputError: there is no such module or no such name in it, the import fails, or it can't be called.
    """
    found = split(architecture)
    if found is None:
        raise BadInputError(f"architecture={architecture} is not of the form {FORM}.")
    module, name = _imported(found[0]), found[1]
    names = [known for known, value in vars(module).items() if callable(value) and not known.startswith("_")]
    if not hasattr(module, name):
        raise (
            unknown(f"network of module {found[0]}", name, names)
            if names
            else BadInputError(f"module {found[0]} has no {name!r}, nor anything else that can be called.")
        )
    factory = getattr(module, name)
    if not callable(factory):
        raise BadInputError(f"architecture={architecture} can't be called: it is of type {type(factory).__name__}.")
    return factory  # type: ignore[no-any-return]


def reason(error: BaseException) -> str:
    """What went wrong in the user's code, in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def _imported(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        # Where the missing module is one that the user's own imports, it is that import that failed.
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise BadInputError(
                f"there is no module {error.name!r} in {here} or among the installed packages."
            ) from error
        raise BadInputError(f"module {name} can't be imported: {reason(error)}.") from error
