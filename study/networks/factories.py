"""Import the user's own networks, which are named `module:factory` after the callable that makes them.

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


def parse(architecture: str) -> tuple[str, str] | None:
    """Return the module and the factory of `module:factory`; None for the name of a built-in network."""
    match = _SYNTAX.fullmatch(architecture)
    return (match[1], match[2]) if match else None


def load(architecture: str) -> Callable[..., Any]:
    """Import the factory of `module:factory`, from the current directory first, as `python -m` does.

    Raises:
        BadInputError: there is no such module or no such name in it, the import fails, or the factory can't be called.
    """
    parts = parse(architecture)
    if parts is None:
        raise BadInputError(f"architecture={architecture} is not of the form {FORM}.")
    module_name, name = parts
    module = _import(module_name)
    names = [known for known, value in vars(module).items() if callable(value) and not known.startswith("_")]
    if not hasattr(module, name):
        raise (
            unknown(f"network of module {module_name}", name, names)
            if names
            else BadInputError(f"module {module_name} has no {name!r}, nor anything else that can be called.")
        )
    factory = getattr(module, name)
    if not callable(factory):
        raise BadInputError(f"architecture={architecture} can't be called: it is of type {type(factory).__name__}.")
    return factory  # type: ignore[no-any-return]


def reason(error: BaseException) -> str:
    """Describe an error of the user's code in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__


def _import(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        # The module that is missing may be another one, which the user's module imports.
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise BadInputError(
                f"there is no module {error.name!r} in {here} or among the installed packages."
            ) from error
        raise BadInputError(f"module {name} can't be imported: {reason(error)}.") from error
