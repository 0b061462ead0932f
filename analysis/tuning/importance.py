"""The importance of each parameter of a search for each objective, computed by Optuna from the search's storage."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from analysis.figures.names import display_levels
from analysis.tuning.tradeoff import OBJECTIVES, TunedCell
from study.errors import BadInputError
from sweeps.tuning.space import storage_url

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

STUDIES = "regularizer/tpe/"
"""The prefix of the names of the studies."""
FEWEST_TRIALS = 4
"""A study with fewer trials has no importance to speak of."""


def importances(storage: Path, tuned: Sequence[TunedCell]) -> pd.DataFrame:
    """Return the importance of every parameter for every objective by fANOVA (Hutter et al., 2014), with a fixed seed.

    Args:
        storage: the SQLite file of the studies.
        tuned: the cells that the studies searched.

    Returns:
        A row for each study, objective and parameter: `study` (its name), `title` (the cell in words), `trials` (those
        with a result), `objective`, `parameter` and `importance` (a share of 1). A study with too few results has no
        row, nor has an objective that is the same in all of them.

    Raises:
        BadInputError: the file is no storage of Optuna's.
    """
    from optuna import load_study, study
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState
    from sqlalchemy.exc import SQLAlchemyError

    url, rows = storage_url(storage), []
    titles = {
        trial: display_levels(tuning.levels, tuning.levels) for tuning in tuned for trial in tuning.searched["trial"]
    }
    try:
        for name in (name for name in study.get_all_study_names(url) if name.startswith(STUDIES)):
            loaded = load_study(study_name=name, storage=url)
            complete = loaded.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            ids = [str(trial.user_attrs.get("trial")) for trial in complete]
            title = next((titles[trial] for trial in ids if trial in titles), None)
            if title is None or len(complete) < FEWEST_TRIALS:
                continue
            for position, objective in enumerate(OBJECTIVES):
                if len({trial.values[position] for trial in complete}) == 1:
                    continue  # an objective that doesn't vary has no variance to share out
                evaluator = FanovaImportanceEvaluator(seed=0)
                shares = get_param_importances(loaded, evaluator=evaluator, target=_objective_value(position))
                labels = {"study": name, "title": title, "trials": len(complete), "objective": objective}
                rows += [
                    {**labels, "parameter": parameter, "importance": float(share)}
                    for parameter, share in shares.items()
                ]
    except SQLAlchemyError:
        raise BadInputError(f"{str(storage)!r} is no storage of Optuna's, or is damaged; move it away.") from None
    return pd.DataFrame(rows, columns=["study", "title", "trials", "objective", "parameter", "importance"])


def _objective_value(position: int) -> Callable[["FrozenTrial"], float]:
    """Return the function that returns a trial's value in one objective."""
    return lambda trial: float(trial.values[position])
