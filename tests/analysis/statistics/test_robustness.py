"""Robustness on planted records: means, the sanity checks, of which each fails where it should, and controls."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from analysis.figures.robustness import accuracy_curves
from analysis.load import load
from analysis.statistics.robustness import (
    FAIL,
    IMAGES_TOLERATED,
    NOT_MEASURED,
    PASS,
    controls,
    failures,
    judge,
    robustness_rows,
    strengths,
)
from study.errors import BadInputError
from study.perturbations import Perturbation
from study.record.results import Results
from study.trial import Trial
from tests.analysis.conftest import grid, plan, record
from tests.analysis.robust import CHECKED, CLEAN, IMAGES, record_attacked, sound

TRIALS = grid(norm=("batch", "none"), robustness="pixel", seed=range(3))
CHECKS_OF_PIXEL = 9


def verdicts(results: Results, accuracy: Callable[[Trial, int, Perturbation], float] = sound) -> pd.DataFrame:
    record_attacked(results, "mine", TRIALS, accuracy)
    loaded = load(results, "mine")
    return judge(robustness_rows(loaded, results), loaded.members)


def test_a_sound_attack_passes_every_check_in_each_arm(results: Results):
    found = verdicts(results)
    assert len(found) == 2 * CHECKS_OF_PIXEL
    assert set(found["verdict"]) == {PASS}
    assert failures(found) == []


def broken(of: Perturbation, **levels: object) -> bool:
    return of.suite == "checks" and all(getattr(of, name) == level for name, level in levels.items())


USUAL = {"name": "pgd", "norm": "linf", "epsilon": 0.1}
WEAK: dict[str, tuple[str, Callable[[Perturbation], bool], float]] = {
    "epsilon": ("a larger epsilon never helps", lambda of: broken(of, name="pgd", norm="linf", epsilon=0.4), 0.5),
    "zero": ("accuracy falls to 0 as epsilon grows to 1", lambda of: broken(of, epsilon=1.0), 0.012),
    "steps": ("more steps never help", lambda of: broken(of, **USUAL, steps=100), 0.8),
    "restarts": ("more restarts never help", lambda of: broken(of, **USUAL, restarts=5), 0.8),
    "fgsm": ("PGD is no weaker than FGSM", lambda of: broken(of, name="fgsm"), 0.02),
    "noise": ("FGSM is no weaker than noise of the same norm", lambda of: broken(of, name="uniform"), 0.1),
    "transfer": ("white-box is no weaker than transfer", lambda of: broken(of, name="transfer"), 0.02),
    "l2": ("l2 is no weaker than linf, whose ball it holds", lambda of: broken(of, name="pgd", norm="l2"), 0.8),
    "margin": ("climbing the margin is not much stronger", lambda of: broken(of, loss="margin"), 0.02),
}
"""For each check a perturbation that breaks it, and the accuracy with which it does."""


@pytest.mark.parametrize("name", WEAK)
def test_an_attack_that_is_not_sound_fails_the_check_that_sees_it(results: Results, name: str):
    check, is_weak, acc = WEAK[name]
    found = verdicts(
        results, lambda trial, seed, of: acc if is_weak(of) and trial.norm == "batch" else sound(trial, seed, of)
    )
    failed = found[found["verdict"] == FAIL]
    assert check in set(failed["check"])
    assert set(failed["norm"]) == {"batch"}
    (sentence,) = (line for line in failures(found) if check in line)
    assert sentence.startswith("WARNING, norm=batch: ")
    assert f"{acc:.3f}" in sentence


def test_two_images_more_are_tolerated_and_three_are_not(results: Results):
    for images, verdict in ((2, PASS), (3, FAIL)):

        def accuracy(trial: Trial, seed: int, of: Perturbation, more: float = images / CHECKED) -> float:
            of_steps = broken(of, **USUAL, restarts=1)
            return 0.25 + more * (of.steps == 40) if of_steps else sound(trial, seed, of)

        found = verdicts(results, accuracy).set_index(["norm", "check"])["verdict"]
        assert found["none", "more steps never help"] == verdict
    assert IMAGES_TOLERATED == 2 / CHECKED


def test_without_the_checks_nothing_is_said_of_the_attacks(results: Results):
    trials = grid(norm=("batch", "none"), robustness="paper2019", standardize="paper2019", dataset="mnist", seed=(0, 1))
    record_attacked(results, "mine", trials)
    loaded = load(results, "mine")
    found = judge(robustness_rows(loaded, results), loaded.members)
    assert set(found["verdict"]) == {NOT_MEASURED}


def test_the_papers_clip_is_seen_to_weaken_its_l2(results: Results):
    """Pixels beyond the clip are moved by it alone; without it the l2 ball holds that of linf."""

    def accuracy(trial: Trial, seed: int, of: Perturbation) -> float:
        return {("l2", True): 0.6, ("linf", True): 0.5, ("l2", False): 0.4, ("linf", False): 0.5}.get(
            (of.norm, of.bounds is not None), 0.7
        )

    trials = grid(norm="none", robustness="paper2019", standardize="paper2019", dataset="cifar10", seed=(0, 1))
    record_attacked(results, "mine", trials, accuracy)
    loaded = load(results, "mine")
    found = judge(robustness_rows(loaded, results), loaded.members).set_index("check")["verdict"]
    assert found["the paper's l2 is no weaker than its linf, clipped to [-2, 2]"] == FAIL
    assert found["the paper's l2 is no weaker than its linf, unclipped"] == PASS


def test_accuracies_are_means_over_seeds_with_intervals_and_a_share_of_the_clean_one(results: Results):
    record_attacked(results, "mine", TRIALS, diverged=(2,))
    loaded = load(results, "mine")
    data = strengths(robustness_rows(loaded, results), loaded.members)
    (row,) = data[
        (data["suite"] == "pixel") & (data["ball"] == "linf") & (data["epsilon"] == 0.2) & (data["norm"] == "none")
    ].to_dict("records")
    pgd = Perturbation("pixel", "pgd", "linf", "pixel", 0.2, steps=20, restarts=1)
    wanted = np.mean([sound(TRIALS[1], seed, pgd) for seed in (0, 1)])
    assert row["acc"] == pytest.approx(wanted)
    assert row["acc_low"] < wanted < row["acc_high"]
    assert row["kept"] == pytest.approx(wanted / CLEAN)
    assert (row["n"], row["images"], row["excluded"], row["clean_acc"]) == (2, IMAGES, 1, pytest.approx(CLEAN))
    # The arms of one perturbation stand beside each other.
    assert data["norm"].tolist()[:4] == ["batch", "none", "batch", "none"]
    assert data[["suite", "epsilon"]].drop_duplicates().iloc[0].tolist() == ["pixel", 0.02]


def test_an_accuracy_of_nought_in_all_seeds_has_an_interval(results: Results):
    """It is a share of a count, of which seeds that agree say something all the same."""
    record_attacked(results, "mine", TRIALS, lambda *_: 0.0)
    loaded = load(results, "mine")
    data = strengths(robustness_rows(loaded, results), loaded.members)
    assert (data["acc_low"] == 0).all()
    assert ((data["acc_high"] > 0) & (data["acc_high"] < 0.05)).all()


def test_the_controls_are_of_batch_norm_alone(results: Results):
    record_attacked(results, "mine", TRIALS)
    loaded = load(results, "mine")
    rows = robustness_rows(loaded, results)
    found = controls(rows, loaded.members).set_index("statistics")
    assert set(found["norm"]) == {"batch"}
    assert found.loc["batch_statistics", "difference"] == pytest.approx(0.051)
    assert found.loc["batch_statistics", "low"] < 0.051 < found.loc["batch_statistics", "high"]
    assert "controls" not in set(strengths(rows, loaded.members)["suite"])


def test_a_sweep_without_robustness_is_refused(results: Results):
    trials = grid(norm=("batch", "none"))
    plan(results, trials)
    record(results, trials)
    with pytest.raises(BadInputError, match="robustness=pixel"):
        robustness_rows(load(results, "mine"), results)


def test_cells_of_one_norm_have_it_all_the_same(results: Results):
    """So that the figure has a line for it, as where weight decay is the factor."""
    trials = grid(norm="none", weight_decay=(0.0, 0.1), robustness="pixel", seed=range(2))
    record_attacked(results, "mine", trials)
    loaded = load(results, "mine")
    rows = robustness_rows(loaded, results)
    data = strengths(rows, loaded.members)
    assert data.columns[:2].tolist() == ["weight_decay", "norm"]
    assert len(judge(rows, loaded.members)) == 2 * CHECKS_OF_PIXEL
    assert len(accuracy_curves(data, loaded.members).axes) == 2 * 5
