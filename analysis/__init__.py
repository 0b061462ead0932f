"""The Results section: tables, tests and figures from records. Nothing here imports torch or Ray."""

import sys
from pathlib import Path

import sweeps

if not hasattr(sweeps, "refuse_stranger"):  # which then can't say it for us
    message = f"'sweeps' is {sweeps.__file__} here, not normleak's: rename it, or start from elsewhere."
    if Path(sys.argv[0]).stem in ("-m", "normleak"):
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)
    raise ImportError(message)
