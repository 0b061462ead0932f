"""The experiments: named lists of trials, one file a question, and what it takes to run them."""

import sys
from pathlib import Path
from types import ModuleType

import study


def refuse_stranger(package: ModuleType) -> None:
    """Refuse a package that only has the name of one of ours, as a `study.py` in the user's folder has.

    Raises:
        ImportError: it is one; a command ends with its message and exit code 2.
    """
    if Path(package.__file__ or "").parent.parent != Path(__file__).parent.parent:
        message = (
            f"{package.__name__!r} is {package.__file__} here, not normleak's: rename it, or start from elsewhere."
        )
        # `python -m` is there as `-m` as long as it looks for the module, and the script by its name.
        if Path(sys.argv[0]).stem in ("-m", "normleak"):
            print(f"error: {message}", file=sys.stderr)
            sys.exit(2)
        raise ImportError(message)


refuse_stranger(study)
