"""Set the environment that Ray and its processes read, before Ray is imported.

Ray reads `RAY_AUTH_MODE` and `RAY_RAYLET_PID` when it is imported, and the rest when a cluster starts or Tune runs. Its
processes inherit all of it, but for the raylet's number, which each raylet sets anew for what it starts.
"""

import os
import secrets
import sys
from pathlib import Path

from study.errors import BadInputError
from study.worker import ENVIRONMENT

RAY_ENVIRONMENT = {
    "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token"),
    # Ray ends a process at once, with code 1, that finds its raylet gone where the process of this number, or else the
    # parent, has gone as well: as where Slurm signals all processes of a step. This process is to stop the run first.
    "RAY_RAYLET_PID": str(os.getpid()),
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": os.environ.get("RAY_USAGE_STATS_ENABLED", "0"),
    # With Ray's own 15, workers hardly get a core where anything else runs; Ray adds it to that of this process.
    "RAY_worker_niceness": os.environ.get("RAY_worker_niceness", "0"),  # noqa: SIM112 (as Ray spells it)
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Ctrl-C must reach this process, which stops the run and says how to go on.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # The records say what is done, so Ray's snapshots of the experiment are of no use.
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # Tasks report their progress without the objectives, which are known only at the end.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}

RAY_CAME_FIRST = "ray" in sys.modules and "RAY_AUTH_MODE" not in os.environ
"""Whether this process imported Ray before this module, and so without authentication."""

os.environ.update({**RAY_ENVIRONMENT, **ENVIRONMENT})

# Ray would write a token of its own into a file that all users can read. This one stays in memory.
if (
    not any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    and not (Path.home() / ".ray" / "auth_token").is_file()
):
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def check_import_order() -> None:
    """Refuse to connect if Ray was imported before its environment was set.

    Such a process doesn't authenticate itself, while the Ray processes that it starts ask for a token. Left to itself,
    Ray would try for 20 seconds, fill the terminal and fail.

    Raises:
        BadInputError: Ray was imported first.
    """
    if RAY_CAME_FIRST:
        raise BadInputError(
            "Ray was imported before sweeps.launch could set RAY_AUTH_MODE, which Ray reads only when it is imported; "
            "import sweeps.launch first, or set RAY_AUTH_MODE=token before Python starts."
        )
