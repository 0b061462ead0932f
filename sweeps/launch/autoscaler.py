"""What Ray's cluster launcher says of a cluster's file."""

import logging
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

from ray.autoscaler._private.util import prepare_config, validate_config


def fault_of_config(config: dict[str, Any]) -> str:
    """Return why `ray up` would refuse this content of a file, in one line; empty if it would not."""
    logging.getLogger("ray.autoscaler").setLevel(logging.WARNING)
    output = StringIO()
    try:
        # Ray prints what it thinks of the file, and exits.
        with redirect_stdout(output), redirect_stderr(output):
            validate_config(prepare_config(config))
    except (Exception, SystemExit) as error:
        reason = getattr(error, "message", "") or str(error) or output.getvalue()
        return reason.strip().splitlines()[0]
    return ""
