"""Ray's Optuna searcher, which counts a trial that lacks an objective as failed."""

from typing import Any

from ray.tune.search.optuna import OptunaSearch


class OptunaSearcher(OptunaSearch):  # type: ignore[misc]
    """Optuna as a searcher of Tune's; a trial that diverged has no objectives, and is a failure to Optuna."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna what came of a trial."""
        whole = result is not None and all(name in result for name in self.metric)
        super().on_trial_complete(trial_id, result if whole else None, error or not whole)
