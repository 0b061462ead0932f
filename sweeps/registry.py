"""All sweeps by name. A new one is a file beside this one, with a `SWEEP`, and a line here."""

from study.errors import unknown
from sweeps import quickstart
from sweeps.sweep import Sweep

SWEEPS = {sweep.name: sweep for sweep in (quickstart.SWEEP,)}


def sweep(name: str) -> Sweep:
    """The sweep of that name.

    Raises:
        BadInputError: there is none, naming the nearest.
    """
    if name not in SWEEPS:
        raise unknown("sweep", name, SWEEPS)
    return SWEEPS[name]
