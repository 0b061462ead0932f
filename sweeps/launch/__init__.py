"""Ray Tune as a scheduler of trials.

Ray reads most of this environment when it is imported, and its processes inherit it. So this package, which is
imported before any of its modules, sets it.
"""

import os
import secrets
from pathlib import Path

from study.worker import ENVIRONMENT

# Ray reads most of these when it is imported, and its processes inherit them.
os.environ.update(
    {
        "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token"),
        "RAY_AIR_NEW_OUTPUT": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_USAGE_STATS_ENABLED": os.environ.get("RAY_USAGE_STATS_ENABLED", "0"),
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        # Ctrl-C must reach this process, which stops the run and says how to go on.
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        # Ray's snapshots of the experiment are of no use to us: the records say what is done.
        "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
        # Progress is reported without the objectives, which are known at the end.
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        **ENVIRONMENT,
    }
)


# Left to itself Ray would leave a token in a file that all users can read; one for a Ray of our own stays in memory.
if (
    not any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    and not (Path.home() / ".ray" / "auth_token").is_file()
):
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
