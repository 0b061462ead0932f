"""The settings that a set of members shares, and those that tell its cells apart."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from study.settings import DEFAULTS, SETTINGS, format_value, names_where

CELL_SETTINGS = list(names_where(lambda setting: setting.name != "seed"))
"""The settings that make a cell: all but the seed."""
PAIRING_KEYS = ["seed", "model"]
"""The columns by which the arms of a comparison are paired: members that share them share their random streams."""
SWITCHES = {name: setting.only_where for name, setting in SETTINGS.items() if setting.only_where is not None}
"""The settings that matter only where another setting has a certain level; elsewhere they are inactive."""

COMPANIONS = {"optimizer": ("lr", "weight_decay")}
"""The settings that a level of another may have its own of: an optimizer's step has another size with the same rate."""


def companions(members: pd.DataFrame, factor: str) -> dict[str, dict[Any, Any]]:
    """Return the settings that each level of a factor has its own value of, with these values by level.

    Where a level has several values of a setting, these are cells like any other, and nobody's companion.
    """
    found = {}
    for name in COMPANIONS.get(factor, ()):
        values = members.groupby(factor)[name].unique()
        if all(len(of_level) == 1 for of_level in values) and members[name].nunique() > 1:
            found[name] = {level: of_level[0] for level, of_level in values.items()}
    return found


def with_companions_folded(members: pd.DataFrame, factor: str) -> pd.DataFrame:
    """Return the members with the companions of a factor's levels at one value, so that the levels can be paired."""
    return members.assign(**{name: DEFAULTS[name] for name in companions(members, factor)})


def companions_note(members: pd.DataFrame, factor: str) -> list[str]:
    """Return a sentence on what is compared along with the levels of a factor; none where it is they alone."""
    own = [
        f"{name} ({', '.join(f'{format_value(level)} {format_value(value)}' for level, value in values.items())})"
        for name, values in companions(members, factor).items()
    ]
    return [f"each {factor} has its own {' and '.join(own)}: what is compared is both together."] if own else []


def varying_settings(members: pd.DataFrame) -> list[str]:
    """Return the settings that have more than one level among the members, in the order of `Trial`.

    Levels count only where the setting is active: at k=0 the kind of corruption tells no cells apart.
    """
    return [name for name in CELL_SETTINGS if where_active(members, name)[name].nunique() > 1]


def shared_settings(members: pd.DataFrame) -> str:
    """Return the settings that all members share, as a user would type them; defaults are left out."""
    levels = {name: where_active(members, name)[name].unique().tolist() for name in CELL_SETTINGS}
    shared = {name: of_setting[0] for name, of_setting in levels.items() if len(of_setting) == 1}
    shown = [name for name in shared if shared[name] != DEFAULTS[name] or name in ("dataset", "architecture")]
    return " ".join(f"{name}={format_value(shared[name])}" for name in shown)


def inactive_settings(setting: str, level: Any) -> set[str]:
    """Return the settings that don't matter where `setting` has a level: corruption at k=0, k at corruption=none."""
    inactive = {name for name, (other, activates) in SWITCHES.items() if other == setting and not activates(level)}
    inactive |= {name for name, (other, _) in SWITCHES.items() if other in inactive}
    return inactive | {other for name, (other, _) in SWITCHES.items() if (name, "none") == (setting, level)}


def where_active(members: pd.DataFrame, setting: str) -> pd.DataFrame:
    """Return the members for which a setting is active, or all of them where it is active for none."""
    if setting not in SWITCHES:
        return members
    other, activates = SWITCHES[setting]
    active = members[other].map(activates).astype(bool)
    return members[active] if active.any() else members


def matching_rows(members: pd.DataFrame, levels: Mapping[str, Any]) -> pd.DataFrame:
    """Return the members whose settings have the given levels; a tuple stands for any of its levels."""
    matching = pd.Series(True, index=members.index)
    for name, level in levels.items():
        matching &= members[name].isin(level if isinstance(level, tuple) else (level,))
    return members[matching]
