"""Which parameter of a search an objective hangs on: Optuna's own account, from the storage of the search."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from analysis.tuning.tradeoff import OBJECTIVES, Tuning
from study.errors import BadInputError

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

STUDIES = "regularizer/tpe/"
"""What the names of the studies begin with."""
FEWEST_TRIALS = 4
"""Fewer tell nothing."""


def importances(storage: Path, tuned: Sequence[Tuning]) -> pd.DataFrame:
    """The importance of every parameter for every objective by fANOVA (Hutter et al., 2014), with a fixed seed.

    Args:
        storage: the SQLite file of the studies.
        tuned: the cells that they searched.

    Returns:
        A row for each study, objective and parameter: `study`, its name, `title`, that of the cell, `trials`, with a
        result, `objective`, `parameter`, and `importance`, a share of 1. A study with too few results has none, nor has
        an objective that is the same for all of them.

    Raises:
        BadInputError: the file is no storage of Optuna's.
    """
    from optuna import load_study, study
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState
    from sqlalchemy.exc import SQLAlchemyError

    url, rows = f"sqlite:///{storage}", []
    titles = {trial: tuning.title for tuning in tuned for trial in tuning.searched["trial"]}
    try:
        for name in (name for name in study.get_all_study_names(url) if name.startswith(STUDIES)):
            loaded = load_study(study_name=name, storage=url)
            complete = loaded.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            ids = [str(trial.user_attrs.get("trial")) for trial in complete]
            title = next((titles[each] for each in ids if each in titles), None)
            if title is None or len(complete) < FEWEST_TRIALS:
                continue
            for place, objective in enumerate(OBJECTIVES):
                if len({trial.values[place] for trial in complete}) == 1:
                    continue  # where nothing varies there is nothing to account for
                found = get_param_importances(loaded, evaluator=FanovaImportanceEvaluator(seed=0), target=_value(place))
                shared = {"study": name, "title": title, "trials": len(complete), "objective": objective}
                rows += [
                    {**shared, "parameter": parameter, "importance": float(share)} for parameter, share in found.items()
                ]
    except SQLAlchemyError:
        raise BadInputError(f"{str(storage)!r} is no storage of Optuna's, or is damaged; move it away.") from None
    return pd.DataFrame(rows, columns=["study", "title", "trials", "objective", "parameter", "importance"])


def _value(place: int) -> Callable[["FrozenTrial"], float]:
    """What a trial came to in one of its objectives."""
    return lambda trial: float(trial.values[place])
