"""The claims of the 2019 paper on planted records: each is held where it is so, and not held where it isn't."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.claims.ledger import FAMILIES, PAPERS, by_paper, correct, ledger
from analysis.claims.memorization import CLAIMS
from analysis.claims.robustness import ROBUSTNESS_CLAIMS
from analysis.paper import CELLS
from study.errors import BadInputError
from study.record.results import Results
from study.record.rows import describe
from study.trial import Trial
from sweeps.registry import SWEEPS
from sweeps.sweep import Scale
from tests.analysis.claims.test_ledger import GRID, entries, planted
from tests.analysis.conftest import grid, plan
from tests.analysis.planted import noise
from tests.analysis.robust import activation_rows, attack_rows

BY_ID = {claim.id: claim for claim in ROBUSTNESS_CLAIMS}
Levels = Callable[[Trial], dict[str, float]]
"""Results of a trial: columns of `members`, `fgsm_acc` and `fgsm_loss`, and `spread` and `mixed` of activations."""


def has_norm(trial: Trial) -> bool:
    return trial.norm == "batch"


def less_with_norm(column: str, by: float, of: float = 0.9) -> Levels:
    return lambda trial: {column: of - by * has_norm(trial)}


def fgsm_loss(of_side: dict[int, float]) -> Levels:
    return lambda trial: {"fgsm_loss": of_side[trial.resize]}


WITH_DECAY = {False: 0.5, True: 0.88}
"""Accuracy under BIM without weight decay and with it."""
CASES: dict[str, tuple[Levels, Levels]] = {
    "g19-t6-clean": (less_with_norm("test_acc", 0.001), less_with_norm("test_acc", 0.03)),
    "g19-t6-noise": (less_with_norm("noise_acc", 0.164), less_with_norm("noise_acc", 0.05)),
    "g19-t6-bim": (less_with_norm("pgd_linf_acc", 0.438), less_with_norm("pgd_linf_acc", -0.1)),
    "g19-t6-sizes": (
        less_with_norm("pgd_linf_acc", 0.4),
        lambda trial: {"pgd_linf_acc": 0.5 + 0.2 * has_norm(trial) * (1 if trial.resize == 84 else -1)},
    ),
    "g19-t6-sizes-noise": (less_with_norm("noise_acc", 0.15), less_with_norm("noise_acc", -0.1)),
    "g19-t6-worst": (less_with_norm("pgd_linf_acc", 0.61), less_with_norm("pgd_linf_acc", 0.3)),
    "g19-t7-bn": (less_with_norm("pgd_linf_acc", 0.22), less_with_norm("pgd_linf_acc", -0.05)),
    "g19-t7-bn-clean": (less_with_norm("test_acc", 0.02), less_with_norm("test_acc", -0.02)),
    "g19-t7-decay": (
        lambda trial: {"pgd_linf_acc": WITH_DECAY[trial.weight_decay > 0]},
        lambda trial: {"pgd_linf_acc": WITH_DECAY[trial.weight_decay == 0]},
    ),
    "g19-t7-both": (less_with_norm("pgd_linf_acc", 0.8), less_with_norm("pgd_linf_acc", 0.4)),
    "g19-t11-grows": (
        fgsm_loss({28: 1.4, 56: 3.4, 84: 5.8, 112: 8.4}),
        fgsm_loss({28: 8.4, 56: 5.8, 84: 3.4, 112: 1.4}),
    ),
    "g19-t11-decay": (
        lambda _: {"fgsm_acc": 0.53},
        lambda trial: {"fgsm_acc": 0.3 if trial.resize == 84 else 0.53},
    ),
    "g19-f2-depth": (
        lambda trial: {"test_acc": 1 - trial.hidden_layers / 100},
        lambda trial: {"test_acc": trial.hidden_layers / 100},
    ),
    "g19-f2-batch": (
        lambda trial: {"pgd_linf_acc": 0.9 - trial.batch_size / 400},
        lambda trial: {"pgd_linf_acc": 0.2 + trial.batch_size / 400},
    ),
    "g19-f2-batch-none": (
        lambda _: {"pgd_linf_acc": 0.7},
        lambda trial: {"pgd_linf_acc": 0.9 - trial.batch_size / 400},
    ),
    "g19-f2-none": (
        lambda trial: {"pgd_linf_acc": 0.5 + trial.hidden_layers / 200},
        lambda trial: {"pgd_linf_acc": 0.9 - trial.hidden_layers / 200},
    ),
    "g19-f3-bits": (lambda _: {"output_bits": 12.0}, lambda _: {"output_bits": 6.0}),
    "g19-f3-bits-none": (lambda _: {"output_bits": 4.1}, lambda _: {"output_bits": 9.0}),
    "g19-f4-spread": (
        lambda trial: {"spread": 3.0 if has_norm(trial) else 1.0},
        lambda trial: {"spread": 1.0 if has_norm(trial) else 3.0},
    ),
    "g19-f1-mixed": (lambda trial: {"mixed": has_norm(trial)}, lambda trial: {"mixed": not has_norm(trial)}),
    "g19-f8-fails": (lambda _: {"clean_acc": 0.5}, lambda _: {"clean_acc": 0.95}),
    "g19-f8-trains": (lambda _: {"clean_acc": 0.999}, lambda _: {"clean_acc": 0.8}),
    "g19-f8-noise": (less_with_norm("noise_acc", 0.0123), less_with_norm("noise_acc", -0.02)),
    "g19-f8-control": (lambda _: {"clean_acc": 0.999}, lambda _: {"clean_acc": 0.6}),
}
"""Results with which each claim is held, and with which it is not."""


def trials_of(name: str) -> tuple[Trial, ...]:
    """The cells of a claim at the paper's scale, with enough seeds, and not all of many batch sizes."""
    claim = BY_ID[name]
    planned = SWEEPS[claim.sweeps[0]].plan(Scale.paper).trials
    some = [trial for trial in planned if trial.architecture != "deep_mlp" or trial.batch_size in (5, 20, 200)]
    return tuple(replace(trial, seed=tuple(range(5))) for trial in some if claim.about(trial))


def write(results: Results, name: str, levels: Levels) -> None:
    """Record a claim's cells at levels, each seed's a little beside them in a way of its own."""
    sweep, trials = BY_ID[name].sweeps[0], trials_of(name)
    plan(results, trials, sweep)
    tables: dict[str, list[dict[str, Any]]] = {"members": [], "epochs": [], "robustness": [], "activations": []}
    for trial in trials:
        for number, seed in enumerate(trial.seed):
            little = 1 + 0.0005 * noise(trial, seed, 1)[0]
            found = {column: value * little for column, value in levels(trial).items()}
            identity = {"trial": trial.id, "member": number}
            own = {
                column: value for column, value in found.items() if not column.startswith(("fgsm", "spread", "mixed"))
            }
            tables["members"].append({**identity, **describe(trial, seed), "status": "ok", **own})
            fgsm = [row for row in attack_rows(trial, seed) if row["perturbation"] == "fgsm"]
            for row in fgsm if {"fgsm_acc", "fgsm_loss"} & set(found) else ():
                measured = {"acc": found.get("fgsm_acc"), "loss_mean": found.get("fgsm_loss")}
                tables["robustness"].append({**identity, **row, **measured})
            if {"spread", "mixed"} & set(found):
                mixed, spread = levels(trial).get("mixed", False), found.get("spread", 1.0)
                rows = activation_rows(15, spread, bool(mixed), seed)
                if mixed and seed == 4:  # or all seeds would be equal, and nothing known of their spread
                    rows = [{**row, "label": 0 if row["sample"] < 2 else row["label"]} for row in rows]
                tables["activations"] += [{**identity, **row} for row in rows]
    results.write(sweep, trials[0].id, tables)


def test_every_claim_has_its_cases():
    assert set(CASES) == set(BY_ID)
    assert len(BY_ID) == len(ROBUSTNESS_CLAIMS)


@pytest.mark.parametrize("name", BY_ID)
def test_a_claim_is_held_where_it_is_so_and_not_where_it_is_not(name: str, tmp_path: Path):
    for verdict, levels in zip(("held", "not held"), CASES[name], strict=True):
        results = Results.at(tmp_path / verdict)
        write(results, name, levels)
        # The cells of one claim may be half of those of another.
        entry = next(entry for entry in ledger(results, partial=True, paper="2019") if entry.claim.id == name)
        assert entry.verdict == verdict, entry


def test_every_claim_has_cells_of_the_paper_that_its_sweep_has_at_the_papers_scale():
    for claim in ROBUSTNESS_CLAIMS:
        assert claim.topic in CELLS
        trials = SWEEPS[claim.sweeps[0]].plan(Scale.paper).trials
        for side in claim.sides:
            of_side = [trial for trial in trials if replace(claim, arm=side, reference=None).about(trial)]
            assert of_side, claim.id
            for setting, levels in CELLS[claim.topic].items():
                assert {getattr(trial, setting) for trial in of_side} == set(levels), claim.id


def test_the_command_of_a_claim_runs_both_of_its_sides(results: Results):
    at = {claim.id: claim.command(results) for claim in ROBUSTNESS_CLAIMS}
    assert at["g19-t6-bim"] == f"python -m sweeps run input_dimension --results {results}"
    # The quick grid has the reference of this, at 28 pixels, and not the arm, at 84.
    assert at["g19-t6-worst"] == f"python -m sweeps run input_dimension --scale paper --results {results}"


def test_the_other_papers_claims_change_no_verdict_of_a_paper(results: Results, tmp_path: Path):
    """Each paper is a family of its own, so that a p-value counts as often as its own claims have verdicts."""
    planted(results, "quickstart", GRID)
    alone = entries(results)
    write(results, "g19-t6-bim", CASES["g19-t6-bim"][0])
    both = entries(results)
    assert both["g19-t6-bim"].verdict == "held"
    of_2026 = [claim.id for claim in CLAIMS]
    assert {name: (both[name].verdict, both[name].p_holm) for name in of_2026} == {
        name: (alone[name].verdict, alone[name].p_holm) for name in of_2026
    }
    finding = both["g19-t6-bim"].finding
    assert finding is not None
    p_values = correct([finding], FAMILIES["2019"])
    assert both["g19-t6-bim"].p_against_holm == p_values[0][1]
    assert FAMILIES["2026"] == sum(2 if claim.size is None else 3 for claim in CLAIMS)


def test_the_claims_of_one_paper_can_be_asked_for(results: Results):
    write(results, "g19-t6-bim", CASES["g19-t6-bim"][0])
    asked = ledger(results, paper="2019")
    assert {entry.claim.publication for entry in asked} == {"2019"}
    assert list(by_paper(ledger(results))) == list(PAPERS)
    assert [entry.claim.id for entry in asked] == [claim.id for claim in PAPERS["2019"]]
    with pytest.raises(BadInputError, match="2018"):
        ledger(results, paper="2018")
    with pytest.raises(BadInputError, match="input_dimension"):
        ledger(results, "input_dimension", paper="2026")


def test_the_papers_number_stands_beside_ours(results: Results):
    write(results, "g19-t6-bim", CASES["g19-t6-bim"][0])
    entry = next(entry for entry in ledger(results) if entry.claim.id == "g19-t6-bim")
    assert entry.finding is not None
    assert entry.finding.effect == pytest.approx(-0.438, abs=0.002)
    assert (entry.claim.paper, entry.position) == (-0.438, "inside")


def test_each_lambda_is_compared_at_its_own_size_alone(results: Results):
    """At 56 pixels there is one lambda and at 84 another, and neither has a partner at the other's size."""
    write(results, "g19-t7-decay", CASES["g19-t7-decay"][0])
    entry = next(entry for entry in ledger(results) if entry.claim.id == "g19-t7-decay")
    assert entry.finding is not None
    assert "in 2 of 2 cells" in entry.finding.notes


def test_a_reference_that_lacks_a_size_of_the_arm_is_refused(results: Results):
    trials = [trial for trial in trials_of("g19-t7-decay") if trial.weight_decay > 0 or trial.resize == 56]
    plan(results, trials, "input_dimension")
    for trial in trials:
        rows = [
            {"trial": trial.id, "member": number, **describe(trial, seed), "status": "ok", "pgd_linf_acc": 0.5}
            for number, seed in enumerate(trial.seed)
        ]
        results.write("input_dimension", trial.id, {"members": rows, "epochs": []})
    with pytest.raises(BadInputError, match="resize=84"):
        ledger(results)


def test_records_of_other_data_decide_where_there_are_none_of_the_papers(results: Results):
    trials = grid(
        dataset="digits", architecture="mlp", norm=("batch", "none"), norm_momentum=0.0, resize=28, seed=range(5)
    )
    planted(results, "input_dimension", trials, lambda trial, seed: {"noise_acc": 0.5 - 0.1 * (trial.norm == "batch")})
    entry = next(entry for entry in ledger(results) if entry.claim.id == "g19-t6-noise")
    assert entry.records == "input_dimension on digits, mlp (of the paper's 0 of 1 datasets)"
