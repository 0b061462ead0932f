"""The Results section: tables, tests and figures from records. Nothing here imports torch or Ray."""

import sweeps

if not hasattr(sweeps, "refuse_stranger"):
    raise ImportError(f"'sweeps' is {sweeps.__file__} here, not normleak's: rename it, or start from elsewhere.")
