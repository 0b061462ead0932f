"""Which settings a set of members shares and which tell its cells apart."""

from typing import Any

import pandas as pd

from study.settings import DEFAULTS, format_value, names_where
from study.settings import SETTINGS as STATED

SETTINGS = list(names_where(lambda setting: setting.name != "seed"))
"""The columns that make a cell."""
STREAMS = ["seed", "model"]
"""The columns that name a member's random streams, which the arms of a comparison share."""
SWITCHES = {name: setting.only_where for name, setting in STATED.items() if setting.only_where is not None}
"""Settings that mean something only where another has such a level; elsewhere they are `none`."""


def varying(members: pd.DataFrame) -> list[str]:
    """The settings with more than one level here, in the order of `Trial`.

    What a setting is where it is switched off doesn't count: a corruption tells no cells apart that k doesn't.
    """
    return [name for name in SETTINGS if switched_on(members, name)[name].nunique() > 1]


def common(members: pd.DataFrame) -> str:
    """The settings that all members share, as a user would type them; defaults are left out."""
    levels = {name: switched_on(members, name)[name].unique().tolist() for name in SETTINGS}
    shared = {name: found[0] for name, found in levels.items() if len(found) == 1}
    shown = [name for name in shared if shared[name] != DEFAULTS[name] or name in ("dataset", "architecture")]
    return " ".join(f"{name}={level(shared[name])}" for name in shown)


def silenced(setting: str, at: Any) -> set[str]:
    """The other settings that mean nothing where this one has that level: corruption at k=0, k at corruption=none."""
    off = {name for name, (other, means) in SWITCHES.items() if other == setting and not means(at)}
    off |= {name for name, (other, _) in SWITCHES.items() if other in off}
    return off | {other for name, (other, _) in SWITCHES.items() if (name, "none") == (setting, at)}


def switched_on(members: pd.DataFrame, setting: str) -> pd.DataFrame:
    """The members for which a setting means anything; all of them where it means nothing to any."""
    if setting not in SWITCHES:
        return members
    other, means = SWITCHES[setting]
    on = members[other].map(means).astype(bool)
    return members[on] if on.any() else members


def level(value: object) -> str:
    """One level of a setting, as a user would type it."""
    return format_value(value)
