"""The claims on VGGs and wide residual networks, on planted records: the paper's numbers, and their reverse."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from analysis.claims.ledger import Entry, ledger
from analysis.claims.robustness_trained import MEAN_ERRORS, TRAINED_CLAIMS
from analysis.paper import CELLS
from analysis.report.network_tables import NETWORK_TABLES, RATES
from study.corruptions.names import COMPUTED, SEVERITIES
from study.record.results import Results
from study.record.rows import describe
from study.trial import Trial
from sweeps.registry import SWEEPS
from sweeps.robustness.vgg_cifar import DROPS
from sweeps.sweep import Scale
from tests.analysis.conftest import DIVERGED, plan
from tests.analysis.planted import noise

pytestmark = pytest.mark.slow

BY_ID = {claim.id: claim for claim in TRAINED_CLAIMS}
Found = dict[str, float]
Levels = Callable[[Trial], Found]
"""Results of a trial: columns of `members`, `FAMILY_acc` (a mean over severities) and accuracies on CIFAR-10.1."""
IMAGES = 70_000
"""About as many as SVHN has, for an accuracy is tested as a share of them."""
MEMBERS = ("test_acc", "clean_acc", "noise_acc", "pgd_linf_acc", "pgd_l2_acc", "corruption_error")
SWEEPS_OF_CLAIMS = ("vgg_svhn", "vgg_cifar", "wide_resnet")


def has_norm(trial: Trial) -> bool:
    return trial.norm == "batch"


def of_the_paper(trial: Trial) -> Found:
    """What the tables and the text of the paper have of a trial; the rest is made up to fit its claims."""
    settings, found = trial.settings(), dict.fromkeys(MEMBERS, 0.5)
    rows = [(table, row) for table in NETWORK_TABLES if trial_sweep(trial) in table.sweeps for row in table.rows]
    for table, row in rows:
        if matches(row.levels, settings):
            numbers = zip(table.columns, row.numbers, strict=True)
            found |= {column: number[0] for column, number in numbers if number is not None}
    if (trial.architecture, trial.lr_drop) == ("vgg8", "none") and trial.dataset == "cifar10":
        found |= {"pgd_linf_101_acc": 0.4 - 0.15 * has_norm(trial), "pgd_l2_101_acc": 0.5 - 0.034 * has_norm(trial)}
    untrained = trial.dataset == "svhn" and trial.norm == "none" and trial.architecture != "vgg8"
    # The gap is the training accuracy less the test accuracy, which is 0.8 points higher with batch norm.
    found["clean_acc"] = 0.189 if untrained else 0.99 - 0.003 * has_norm(trial)
    found["corruption_error"] = 0.4 + has_norm(trial) * MEAN_ERRORS.get(NAMES.get(trial.architecture, ""), 0.0)
    return found


def the_other_way(trial: Trial) -> Found:
    """What the paper has of the other arm, where it has it, and networks without batch norm that train."""
    arms = ("batch", "fixup" if trial_sweep(trial) == "wide_resnet" else "none")
    norm = arms[trial.norm == "batch"]
    lr = RATES[norm] if trial.lr_drop == DROPS[0] else trial.lr
    found, swapped = of_the_paper(trial), of_the_paper(replace(trial, norm=norm, lr=lr))
    known = swapped if swapped["pgd_linf_acc"] != 0.5 else found  # the paper has no such network without batch norm
    return {**known, "clean_acc": 0.99, "corruption_error": swapped["corruption_error"]}


NAMES = {"vgg8": "vgg8", "vgg13": "vgg13", "wrn28_10": "wrn"}


def matches(levels: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    return all(settings[name] in (level if isinstance(level, tuple) else (level,)) for name, level in levels.items())


def trial_sweep(trial: Trial) -> str:
    if trial.architecture.startswith("wrn"):
        return "wide_resnet"
    return "vgg_svhn" if trial.dataset == "svhn" or trial.lr_drop == "4+6" else "vgg_cifar"


def planned(sweep: str, scale: Scale = Scale.paper) -> tuple[Trial, ...]:
    """The trials of a sweep with enough seeds."""
    return tuple(replace(trial, seed=tuple(range(5))) for trial in SWEEPS[sweep].plan(scale).trials)


def trials_of(name: str, scale: Scale = Scale.paper) -> tuple[Trial, ...]:
    """The cells of a claim."""
    return tuple(trial for trial in planned(BY_ID[name].sweeps[0], scale) if BY_ID[name].about(trial))


def attack_rows(found: Found) -> list[dict[str, Any]]:
    """The rows of `robustness` that the results of a member are in."""
    families = [family for family in COMPUTED if f"{family}_acc" in found]
    rows: list[dict[str, Any]] = [
        {
            **{"suite": "corruptions", "perturbation": family, "severity": severity, "split": "test"},
            "acc": found[f"{family}_acc"] - 0.01 * (severity - 3),
        }
        for family in families
        for severity in SEVERITIES
    ]
    attack = {"suite": "paper2019", "split": "cifar10.1", "n": 2000, "clean_acc": found.get("clean_101_acc")}
    pgd = {**attack, "perturbation": "pgd", "epsilon": 0.03}
    by_column = {
        "noise_101_acc": {**attack, "perturbation": "noise", "epsilon": 0.25},
        "pgd_linf_101_acc": {**pgd, "norm": "linf", "clip_low": -2.0, "clip_high": 2.0},
        "pgd_l2_101_acc": {**pgd, "norm": "l2", "clip_low": -2.0, "clip_high": 2.0},
    }
    if any("_101_" in column for column in found):
        rows += [{**row, "acc": found.get(column)} for column, row in by_column.items()]
        # What else there is of it: twice the noise, and no clip.
        rows += [{**by_column["noise_101_acc"], "epsilon": 0.5, "acc": 0.0}]
        rows += [{**pgd, "norm": norm, "acc": 0.0} for norm in ("linf", "l2")]
    return rows


def write(results: Results, trials: Sequence[Trial], levels: Levels, diverged: str = "") -> None:
    """Record trials of a sweep, each seed a little beside its levels; all of an architecture may have diverged."""
    sweep = trial_sweep(trials[0])
    plan(results, trials, sweep)
    for trial in trials:
        tables: dict[str, list[dict[str, Any]]] = {"members": [], "epochs": [], "robustness": []}
        for number, seed in enumerate(trial.seed):
            little = noise(trial, seed, 1)[0]
            found = {column: value * (1 + 0.0005 * little) for column, value in levels(trial).items()}
            identity = {"trial": trial.id, "member": number}
            well = trial.architecture != diverged
            known = {"status": "ok", **{name: value for name, value in found.items() if name in MEMBERS}}
            row = {**identity, **describe(trial, seed), "n_in": IMAGES, **(known if well else DIVERGED)}
            tables["members"].append(row)
            tables["robustness"] += [{**identity, **attack} for attack in attack_rows(found) if well]
        results.write(sweep, trial.id, tables)


def entry_of(results: Results, name: str) -> Entry:
    return next(entry for entry in ledger(results, partial=True, paper="2019") if entry.claim.id == name)


@pytest.mark.parametrize(("verdict", "levels"), [("held", of_the_paper), ("not held", the_other_way)])
@pytest.mark.parametrize("sweep", SWEEPS_OF_CLAIMS)
def test_the_papers_own_tables_hold_its_claims_and_exchanged_arms_contradict_them(
    sweep: str, verdict: str, levels: Levels, results: Results
):
    write(results, planned(sweep), levels)
    of_sweep = {entry.claim.id: entry for entry in ledger(results, sweep)}
    assert set(of_sweep) == {claim.id for claim in TRAINED_CLAIMS if claim.sweeps == (sweep,)}
    assert {name: entry.verdict for name, entry in of_sweep.items()} == dict.fromkeys(of_sweep, verdict)
    for entry in of_sweep.values() if verdict == "held" else ():
        assert entry.finding is not None
        # The text and the tables are rounded apart.
        assert entry.claim.paper in (None, pytest.approx(entry.finding.effect, abs=0.005)), entry.claim.id


def test_every_claim_has_the_papers_cells_at_the_papers_scale():
    for claim in TRAINED_CLAIMS:
        trials = SWEEPS[claim.sweeps[0]].plan(Scale.paper).trials
        sides = [
            [trial for trial in trials if replace(claim, arm=side, reference=None).about(trial)] for side in claim.sides
        ]
        assert all(sides), claim.id
        for setting, levels in CELLS[claim.topic].items():
            assert {getattr(trial, setting) for side in sides for trial in side} <= set(levels), claim.id


def test_each_network_of_the_paper_is_one_cell_of_its_claims():
    for name, cells in {"g19-t2-clean": 2, "g19-t4-vgg13-shot": 2, "g19-t4-wrn-shot": 2, "g19-t3-depth": 6}.items():
        assert len(trials_of(name)) == cells, name


def test_the_noises_are_a_cell_each_at_each_severity(results: Results):
    write(results, trials_of("g19-t4-vgg8-noise"), of_the_paper)
    finding = entry_of(results, "g19-t4-vgg8-noise").finding
    assert finding is not None
    assert "in 20 of 20 cells" in finding.notes
    assert finding.effect == pytest.approx(-0.067, abs=0.001)


def test_one_family_of_noise_that_batch_norm_withstands_contradicts_the_claim_on_all(results: Results):
    def but_shot_noise(trial: Trial) -> Found:
        return {**of_the_paper(trial), "shot_noise_acc": 0.6 + 0.1 * has_norm(trial)}

    write(results, trials_of("g19-t4-vgg8-noise"), but_shot_noise)
    assert entry_of(results, "g19-t4-vgg8-noise").verdict == "not held"


def test_how_many_families_a_mean_is_over_is_said(results: Results):
    everywhere = {f"{family}_acc": 0.5 for family in COMPUTED}
    write(results, trials_of("g19-t4-vgg8-mce"), lambda trial: {**everywhere, **of_the_paper(trial)})
    finding = entry_of(results, "g19-t4-vgg8-mce").finding
    assert finding is not None
    assert "corrupted images: 17 of 19 families, computed" in finding.notes


def test_networks_that_were_shown_no_corrupted_images_have_no_value(results: Results):
    write(results, trials_of("g19-t4-vgg8-noise"), lambda trial: {"test_acc": 0.9})
    verdicts = {entry.claim.id: entry.verdict for entry in ledger(results, "vgg_cifar", partial=True)}
    assert {verdicts[f"g19-t4-vgg8-{name}"] for name in ("noise", "shot", "mce")} == {"undecided"}


def test_networks_that_diverged_did_not_train(results: Results):
    write(results, trials_of("g19-t8-untrainable"), of_the_paper, diverged="vgg19")
    entry = entry_of(results, "g19-t8-untrainable")
    assert entry.verdict == "held"
    assert entry.finding is not None
    assert "in 4 of 4 cells" in entry.finding.notes


def test_a_pair_that_diverged_is_left_out_of_all_other_claims(results: Results):
    write(results, trials_of("g19-t4-vgg13-noise"), of_the_paper, diverged="vgg13")
    assert entry_of(results, "g19-t4-vgg13-noise").verdict == "undecided"


def test_the_small_network_decides_at_quick_scale_and_is_named(results: Results):
    write(results, planned("vgg_cifar", Scale.quick), lambda trial: {"shot_noise_acc": 0.6 - 0.056 * has_norm(trial)})
    entry = entry_of(results, "g19-t4-vgg8-shot")
    assert entry.verdict == "held"
    assert entry.records == "vgg_cifar on digits, lenet (of the paper's 0 of 1 datasets, 0 of 1 networks)"


def test_the_arms_of_table_3_differ_in_their_rate_where_both_arms_have_both(results: Results):
    levels = {("batch", 0.1): 0.3, ("none", 0.01): 0.5}
    write(
        results,
        planned("vgg_cifar", Scale.quick),
        lambda trial: {"pgd_linf_acc": levels.get((trial.norm, trial.lr), 0.9)},
    )
    finding = entry_of(results, "g19-t3-depth").finding
    assert finding is not None
    assert finding.effect == pytest.approx(-0.2, abs=0.001)
