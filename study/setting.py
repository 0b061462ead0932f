"""What there is to state of a setting: `study.settings` states each by one call of `setting`."""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pyarrow as pa

from study.data import folders
from study.joined import EPOCHS_FORM, SOURCE_FORM, SUITES_FORM
from study.networks import factories

_TYPES = {
    str: ("text", "string", pa.string()),
    float: ("a number", "number", pa.float64()),
    int: ("a whole number", "integer", pa.int32()),
    tuple[int, ...]: ("whole numbers", "integers", pa.int64()),
}
"""Each type of setting in words, for another program, and as the record has it."""


class Stage(StrEnum):
    """The steps of a trial, in their order."""

    DATA = "data"
    CORRUPTION = "corruption"
    NETWORK = "network"
    TRAINING = "training"
    MEASUREMENT = "measurement"
    MEMBERS = "members"


@dataclass(frozen=True)
class Interval:
    """The numbers from one end to another, each end with it or without."""

    low: float
    high: float
    with_low: bool
    with_high: bool

    @classmethod
    def parse(cls, text: str) -> "Interval":
        """Return the interval of `[0, 1)`, `(0, inf)` and the like."""
        low, high = text[1:-1].split(", ")
        return cls(float(low), float(high), text[0] == "[", text[-1] == "]")

    def __contains__(self, number: float) -> bool:
        above = number >= self.low if self.with_low else number > self.low
        return above and (number <= self.high if self.with_high else number < self.high)

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"{self.low:g} or more" if self.with_low else f"above {self.low:g}"
        return f"in {'[' if self.with_low else '('}{self.low:g}, {self.high:g}{']' if self.with_high else ')'}"

    def bounds(self) -> dict[str, float | bool | None]:
        """Return its ends, JSON-ready: None where it has no end."""
        low, high = (end if math.isfinite(end) else None for end in (self.low, self.high))
        return {"low": low, "high": high, "with_low": self.with_low, "with_high": self.with_high}


@dataclass(frozen=True)
class Setting:
    """What there is to know of one setting.

    Attributes:
        name: as the user types it; the column of the record has the same name.
        type: `str`, `float`, `int` or `tuple[int, ...]`.
        default: its value where the user names none.
        stage: the first stage of a trial that depends on it.
        description: what it means.
        unit: what its numbers count or measure; empty for a name, and for a number without a unit.
        choices: the names that it takes; any text where there are none.
        within: the numbers that it takes; any where it is None.
        form: what it takes beside its choices: a `folder` of images, the `factory` of a network, several `epochs` or
            `suites` joined by +, or a network and its norm as a `source`.
        per_member: whether the members of a pack, and so bundled trials, may differ in it.
        decides_speed: whether the seconds of a step, and so the fastest backend, depend on it.
        decides_duration: whether a recorded trial must agree in it to tell how long another one takes.
        only_where: another setting, and whether this one means anything at a value of that.
        elsewhere: its value where it means nothing.
    """

    name: str
    type: Any
    default: Any
    stage: Stage
    description: str
    unit: str = ""
    choices: Collection[str] = ()
    within: Interval | None = None
    form: str = ""
    per_member: bool = False
    decides_speed: bool = False
    decides_duration: bool = False
    only_where: tuple[str, Callable[[Any], bool]] | None = None
    elsewhere: Any = "none"

    @property
    def is_tuple(self) -> bool:
        """Whether it takes several numbers at once, as `seed` does: one for each member."""
        return self.type not in (str, int, float)

    @property
    def arrow(self) -> pa.DataType:
        """The type of its column in the record; of several numbers, each member's row has one."""
        return _TYPES[self.type][2]

    @property
    def kind(self) -> str:
        """Its type, in words."""
        return _TYPES[self.type][0]

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms in which it takes what is the user's own."""
        forms = {"factory": factories.FORM, "epochs": EPOCHS_FORM, "suites": SUITES_FORM, "source": SOURCE_FORM}
        return folders.FORMS if self.form == "folder" else (forms[self.form],) if self.form else ()

    @property
    def all_choices(self) -> tuple[str, ...]:
        """The names that it takes, and the forms in which it takes what is the user's own."""
        return (*self.choices, *self.forms)

    @property
    def values(self) -> str:
        """The values that it takes, in words."""
        return ", ".join(self.all_choices) or (self.kind if self.within is None else f"{self.kind} {self.within}")

    def facts(self) -> dict[str, Any]:
        """Return what there is to know of it for another program, JSON-ready; None stands for what it has not."""
        return {
            "name": self.name,
            "type": _TYPES[self.type][1],
            "default": list(self.default) if self.is_tuple else self.default,
            "choices": list(self.choices) or None,
            "forms": list(self.forms) or None,
            "range": None if self.within is None else self.within.bounds(),
            "unit": self.unit or None,
            "stage": self.stage.value,
            "description": self.description,
        }


def setting(default: Any, stage: Stage, description: str, *, within: str | None = None, **facts: Any) -> Any:
    """State one setting, as the default of a field of `Settings`.

    Args:
        default: its default.
        stage: the first stage of a trial that depends on it.
        description: what it means.
        within: the numbers that it takes, such as `[0, 1)`.
        facts: any further attributes of `Setting`.
    """
    interval = None if within is None else Interval.parse(within)
    return field(default=default, metadata={"stage": stage, "description": description, "within": interval, **facts})
