"""Which settings a set of members shares and which tell its cells apart."""

import pandas as pd

from study.trial import DEFAULTS, FIELDS, text

SETTINGS = [name for name in FIELDS if name != "seed"]
"""The columns that make a cell."""


def varying(members: pd.DataFrame) -> list[str]:
    """The settings with more than one level here, in the order of `Trial`."""
    return [name for name in SETTINGS if members[name].nunique() > 1]


def common(members: pd.DataFrame) -> str:
    """The settings that all members share, as a user would type them; defaults are left out."""
    shared = [name for name in SETTINGS if members[name].nunique() == 1]
    shown = [name for name in shared if members[name].iloc[0] != DEFAULTS[name] or name in ("dataset", "architecture")]
    return " ".join(f"{name}={level(members[name].iloc[0])}" for name in shown)


def level(value: object) -> str:
    """One level of a setting, as a user would type it."""
    return text(float(value) if isinstance(value, float) else value)
