"""Import the user's own objects, which are named `module:name`. What was not typed by the user is never imported."""

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from study.errors import BadInputError, unknown
from study.seeds import host_stream

_NAME = r"[^\W\d]\w*"
_SYNTAX = re.compile(rf"({_NAME}(?:\.{_NAME})*):({_NAME})")


def parse(text: str) -> tuple[str, str] | None:
    """Return the module and the name of `module:name`; None for anything else."""
    match = _SYNTAX.fullmatch(text)
    return (match[1], match[2]) if match else None


def load(text: str, kind: str, fits: Callable[[Any], bool]) -> Any:
    """Import the object `module:name`, from the current directory first, as `python -m` does.

    Args:
        text: `module:name`.
        kind: what the object is to be, in a word.
        fits: whether an object is one, by which the nearest name is found where there is none of this name.

    Raises:
        BadInputError: there is no such module or no such name in it, or the import fails.
    """
    parts = parse(text)
    if parts is None:
        raise BadInputError(f"{text} is not of the form MODULE:NAME.")
    module_name, name = parts
    module = _import(module_name)
    names = [known for known, value in vars(module).items() if fits(value) and not known.startswith("_")]
    if not hasattr(module, name):
        raise (
            unknown(f"{kind} of module {module_name}", name, names)
            if names
            else BadInputError(f"module {module_name} has no {name!r}, nor anything else that could be a {kind}.")
        )
    return getattr(module, name)


def reason(error: BaseException) -> str:
    """Describe an error of the user's code in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def _import(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        # What the module draws as it is imported is then the same in every process.
        with host_stream(0, "import"):
            return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        # The module that is missing may be another one, which the user's module imports.
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise BadInputError(
                f"there is no module {error.name!r} in {here} or among the installed packages."
            ) from error
        raise BadInputError(f"module {name} can't be imported: {reason(error)}.") from error
