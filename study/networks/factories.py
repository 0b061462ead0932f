"""Import the user's own networks, which are named `module:factory` after the callable that makes them.

Nothing here imports torch, so a plan can be checked on any machine.
"""

from collections.abc import Callable
from typing import Any

from study import imports
from study.errors import BadInputError

FORM = "MODULE:FACTORY"


def load(architecture: str) -> Callable[..., Any]:
    """Import the factory of `module:factory`.

    Raises:
        BadInputError: there is none, the import fails, or the factory can't be called.
    """
    factory = imports.load(architecture, "network", callable)
    if not callable(factory):
        raise BadInputError(f"architecture={architecture} can't be called: it is of type {type(factory).__name__}.")
    return factory  # type: ignore[no-any-return]
