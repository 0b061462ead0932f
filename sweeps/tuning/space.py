"""What a tuning searches, by which objectives, and what it compares the result with. Needs neither Ray nor Optuna.

Objectives are means over several seeds, on training samples and on a validation set that no arm trains on. The test set
is kept for the comparison on fresh seeds afterwards.
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
from study.record.results import Results
from study.storage.location import is_uri
from study.trial import Trial
from sweeps.memorization.grids import QUICK

NAMES = ("regularizer",)
"""What can be tuned."""
SEARCHES = {"tpe": "tune_regularizer", "random": "tune_regularizer_random"}
"""The sweep under which each search is recorded, by its sampler."""
MAX_LOSS = 0.01
"""The validation accuracy that the recommended setting may lose, unless another budget is stated."""
STORAGE = "optuna.db"
"""The file of Optuna's storage, beside the records of the first search."""
CONFIRM = "tune_regularizer_confirm"
"""The sweep under which the confirmation is recorded."""
OBJECTIVES: Mapping[str, Literal["minimize", "maximize"]] = {
    "mem_acc": "minimize",
    "val_mia_auc": "minimize",
    "val_acc": "maximize",
}
"""What is to be made small or large; `val_` columns are measured on the validation set."""
VALIDATION = 0.2
"""The share of the training set that is set aside for validation."""
KINDS = ("log", "hinge")
"""The regularizers that are searched."""
RANGES = {"one_minus_alpha": (1e-4, 0.5), "lr": (1e-4, 1e-2)}
"""The range of each number that is searched, evenly in its logarithm."""
DIGITS = 3
"""The digits to which a suggestion is rounded, so that its trial can be typed."""
DECIDED = (
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
"""The settings of a cell that the user doesn't set."""


def check_name(name: str) -> None:
    """Refuse a name that is not among `NAMES`.

    Raises:
        BadInputError: it is not; the message has the nearest.
    """
    if name not in NAMES:
        raise unknown("tuning", name, NAMES)


def storage_path(results: Results) -> Path:
    """Return the file that Optuna's studies are kept in.

    Raises:
        BadInputError: the results are not in a local folder.
    """
    if is_uri(results.location):
        raise BadInputError(f"a tuning keeps its studies in a file, so its results go to a folder, not to {results}.")
    return Path(results.location) / SEARCHES["tpe"] / STORAGE


def storage_url(path: Path) -> str:
    """Return the URL by which Optuna finds a storage, whatever the names of its folders have in them."""
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(path)).render_as_string()


@dataclass(frozen=True)
class Cell:
    """What is tuned at once: one dataset, architecture and k.

    Attributes:
        base: the trial to be improved on: batch norm without a regularizer, on the seeds of the search.
        fresh: the seeds of the confirmation, none of which the search uses.
        tune_lr: whether the learning rate is searched as well.
    """

    base: Trial
    fresh: tuple[int, ...]
    tune_lr: bool = False

    @property
    def references(self) -> tuple[Trial, ...]:
        """The trials that the search is compared with, on its seeds: batch norm alone, and no normalization."""
        return self.base, replace(self.base, norm="none")

    def setting(self, one_minus_alpha: float, kind: str, lr: float | None = None) -> Trial:
        """Return the trial of a suggestion, its numbers rounded."""
        # The subtraction leaves binary digits behind.
        alpha = round(1 - _round(one_minus_alpha), 9)
        return replace(self.base, alpha=alpha, regularizer=kind, lr=self.base.lr if lr is None else _round(lr))

    def confirmation(self, recommended: Trial | None) -> tuple[Trial, ...]:
        """Return the trials of the confirmation: all arms, on the fresh seeds and the same samples."""
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
        """The range of each number that is searched."""
        return {name: RANGES[name] for name in ("one_minus_alpha", *(["lr"] if self.tune_lr else []))}

    def study(self, search: str, seed: int) -> str:
        """Return the name of a search's study, a different one for anything that the search keeps fixed."""
        fixed = [self.base.id, OBJECTIVES, self.ranges, KINDS, DIGITS, seed]
        digest = hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:8]
        return f"regularizer/{search}/{self}-{digest}"

    def __str__(self) -> str:
        return f"{folders.identity(self.base.dataset)}-{self.base.architecture}-k{self.base.k:g}"


def cells(overrides: Mapping[str, Sequence[Any]], fresh: int, tune_lr: bool) -> list[Cell]:
    """Return a cell for each combination of the levels of `CELLS`.

    Args:
        overrides: levels by setting, in place of those of the quick scale.
        fresh: how many seeds the confirmation has.
        tune_lr: whether the learning rate is searched as well.

    Raises:
        BadInputError: the tuning itself decides a setting, or it has several levels, or doesn't fit the others.
    """
    decided = (*DECIDED, "lr") if tune_lr else DECIDED
    for name, levels in overrides.items():
        if name in decided:
            raise BadInputError(f"{name} is what the tuning decides; leave it out.")
        if len(levels) > 1 and name not in (*CELLS, "seed"):
            raise BadInputError(f"{name} takes one level in a tuning; {', '.join(CELLS)} and seed take several.")
    settings = {
        **DEFAULTS,
        **{name: levels if name in (*CELLS, "seed") else levels[0] for name, levels in overrides.items()},
    }
    levels = [settings[name] if name in overrides else [settings[name]] for name in CELLS]
    return [
        _cell({**settings, **dict(zip(CELLS, values, strict=True))}, fresh, tune_lr)
        for values in itertools.product(*levels)
    ]


def _cell(settings: Mapping[str, Any], fresh: int, tune_lr: bool) -> Cell:
    base = Trial.of({**settings, "validation": VALIDATION, "norm": "batch", "seed": tuple(settings["seed"])})
    if base.k == 0:
        raise BadInputError("with k=0 nothing is atypical, so there is no memorization to reduce; take k above 0.")
    first = base.seed[-1] + 1
    cell = Cell(base, tuple(range(first, first + fresh)), tune_lr)
    cell.confirmation(cell.setting(0.1, KINDS[0]))  # an arm that the network can't have is refused now
    return cell


def recorded_objectives(results: Results, sweep: str, trial: Trial) -> dict[str, float] | None:
    """Return the objectives of a recorded trial, means over its members; None unless each member has them all."""
    if not results.ran(sweep, trial.id):
        return None
    rows = results.read(sweep, "members", [*OBJECTIVES, "status"], {trial.id}).to_pylist()
    if any(row["status"] != "ok" or row[name] is None for row in rows for name in OBJECTIVES):
        return None
    means = {name: fmean(row[name] for row in rows) for name in OBJECTIVES}
    return means if all(map(isfinite, means.values())) else None


def _round(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
