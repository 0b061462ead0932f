"""What a tuning searches, by which objectives, and what it holds the result against: one cell, without Ray or Optuna.

Objectives are means over several seeds, on training samples and on a validation set that no arm trains on; the test
set is left to what is reported of fresh seeds afterwards.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from study.data import folders
from study.errors import BadInputError, unknown
from study.record.location import is_uri
from study.record.results import Results
from study.trial import Trial
from sweeps.memorization.grids import QUICK

NAMES = ("regularizer",)
SEARCHES = {"tpe": "tune_regularizer", "random": "tune_regularizer_random"}
"""The folder of each search's records."""
MAX_LOSS = 0.01
"""The validation accuracy that the recommended setting may lose, unless another budget is stated."""
STORAGE = "optuna.db"
CONFIRM = "tune_regularizer_confirm"
OBJECTIVES: Mapping[str, Literal["minimize", "maximize"]] = {
    "mem_acc": "minimize",
    "val_mia_auc": "minimize",
    "val_acc": "maximize",
}
VALIDATION = 0.2
KINDS = ("log", "hinge")
RANGES = {"one_minus_alpha": (1e-4, 0.5), "lr": (1e-4, 1e-2)}
"""Searched evenly in the logarithm."""
DIGITS = 3
"""Of a suggestion, so that its trial can be typed."""
OWN = (
    "norm",
    "regularizer",
    "alpha",
    "validation",
    "stopping",
    "label_smoothing",
    "weight_decay",
    "protocol",
    "models",
)
"""The settings that the tuning itself decides."""
CELLS = ("dataset", "architecture", "k")
"""The settings of which each combination of levels is a tuning of its own."""
DEFAULTS: dict[str, Any] = {**QUICK, "corruption": "label", "k": 0.1, "seed": range(3)}


def check_name(name: str) -> None:
    """Refuse the name of no tuning.

    Raises:
        BadInputError: it is none, naming the nearest.
    """
    if name not in NAMES:
        raise unknown("tuning", name, NAMES)


def storage_path(results: Results) -> Path:
    """Where the studies are kept.

    Raises:
        BadInputError: the results are not in a local folder.
    """
    if is_uri(results.location):
        raise BadInputError(f"a tuning keeps its studies in a file, so its results go to a folder, not to {results}.")
    return Path(results.location) / SEARCHES["tpe"] / STORAGE


@dataclass(frozen=True)
class Cell:
    """One dataset, architecture and k.

    Attributes:
        base: what is to be improved on: batch norm without a regularizer, on the seeds of the search.
        fresh: the seeds of the confirmation, none of the search's.
        tune_lr: whether the learning rate is searched as well.
    """

    base: Trial
    fresh: tuple[int, ...]
    tune_lr: bool = False

    @property
    def references(self) -> tuple[Trial, ...]:
        """What the search is held against, on its seeds."""
        return self.base, replace(self.base, norm="none")

    def setting(self, one_minus_alpha: float, kind: str, lr: float | None = None) -> Trial:
        """The trial of a suggestion, its numbers rounded."""
        # The difference has digits of its own in binary.
        alpha = round(1 - _rounded(one_minus_alpha), 9)
        return replace(self.base, alpha=alpha, regularizer=kind, lr=self.base.lr if lr is None else _rounded(lr))

    def confirmation(self, recommended: Trial | None) -> tuple[Trial, ...]:
        """What is trained on the fresh seeds, all arms on the same samples."""
        base = replace(self.base, seed=self.fresh)
        return (
            base,
            replace(base, norm="none"),
            *([replace(recommended, seed=self.fresh)] if recommended else []),
            replace(base, norm="group"),
            replace(base, weight_decay=5e-4),
            replace(base, stopping="best"),
            replace(base, label_smoothing=0.1),
        )

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Of the numbers that are searched."""
        return {name: RANGES[name] for name in ("one_minus_alpha", *(["lr"] if self.tune_lr else []))}

    def study(self, search: str, seed: int) -> str:
        """The name of the search's study: another one wherever anything that it keeps fixed is another."""
        fixed = [self.base.id, OBJECTIVES, self.ranges, KINDS, DIGITS, seed]
        digest = hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:8]
        return f"regularizer/{search}/{self}-{digest}"

    def __str__(self) -> str:
        return f"{folders.identity(self.base.dataset)}-{self.base.architecture}-k{self.base.k:g}"


def cells(overrides: Mapping[str, Sequence[Any]], fresh: int, tune_lr: bool) -> list[Cell]:
    """A cell for each combination of the levels of `CELLS`.

    Args:
        overrides: levels by setting, in place of those of the quick scale.
        fresh: how many seeds the confirmation has.
        tune_lr: whether the learning rate is searched as well.

    Raises:
        BadInputError: a setting is the tuning's own, has several levels, or doesn't fit the others.
    """
    own = (*OWN, "lr") if tune_lr else OWN
    for name, levels in overrides.items():
        if name in own:
            raise BadInputError(f"{name} is what the tuning decides; leave it out.")
        if len(levels) > 1 and name not in (*CELLS, "seed"):
            raise BadInputError(f"{name} takes one level in a tuning; {', '.join(CELLS)} and seed take several.")
    given = {
        **DEFAULTS,
        **{name: levels if name in (*CELLS, "seed") else levels[0] for name, levels in overrides.items()},
    }
    levels = [given[name] if name in overrides else [given[name]] for name in CELLS]
    return [
        _cell({**given, **dict(zip(CELLS, cell, strict=True))}, fresh, tune_lr) for cell in itertools.product(*levels)
    ]


def _cell(settings: Mapping[str, Any], fresh: int, tune_lr: bool) -> Cell:
    base = Trial.of({**settings, "validation": VALIDATION, "norm": "batch", "seed": tuple(settings["seed"])})
    if base.k == 0:
        raise BadInputError("with k=0 there is nothing atypical whose memorization could be made less; take k above 0.")
    first = base.seed[-1] + 1
    cell = Cell(base, tuple(range(first, first + fresh)), tune_lr)
    cell.confirmation(cell.setting(0.1, KINDS[0]))  # an arm that the network can't have is refused now
    return cell


def measured(results: Results, sweep: str, trial: Trial) -> dict[str, float] | None:
    """The objectives of a recorded trial, each a mean over its members; None unless all of them have all."""
    if not results.ran(sweep, trial.id):
        return None
    rows = results.read(sweep, "members", [*OBJECTIVES, "status"], {trial.id}).to_pylist()
    if any(row["status"] != "ok" or row[name] is None for row in rows for name in OBJECTIVES):
        return None
    means = {name: fmean(row[name] for row in rows) for name in OBJECTIVES}
    return means if all(map(isfinite, means.values())) else None


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
