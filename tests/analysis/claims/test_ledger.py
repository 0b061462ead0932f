"""The ledger on records that are planted, so that every verdict is known."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from analysis.claims.claim import Claim
from analysis.claims.evidence import attack_evidence, beyond_shadows
from analysis.claims.ledger import FAMILIES, Entry, correct, ledger
from analysis.claims.memorization import CLAIMS
from analysis.load import load
from analysis.paper import CELLS
from analysis.statistics import membership
from analysis.statistics.hypotheses import mean_of_intervals
from study.data.splits import halves as halves_of
from study.errors import BadInputError
from study.mia.audit import MAIN_ATTACK
from study.record.results import Results
from study.record.rows import describe
from study.trial import Trial
from sweeps.memorization.grids import NETWORKS
from sweeps.registry import SWEEPS
from sweeps.sweep import Scale
from tests.analysis.conftest import DIVERGED, Outcome, OutcomeOf, grid, plan, plausible, record, rows, shard
from tests.analysis.statistics import test_membership as halves

FAMILY = FAMILIES["2026"]
BY_ID = {claim.id: claim for claim in CLAIMS}
FOUR = ("mnist", "fashion_mnist", "cifar10", "cifar100")
GRID = grid(k=(0.1, 0.3), norm=("batch", "none"), seed=range(3))
DIFFERENCES = {0.1: (0.1, 0.2, 0.3), 0.3: (0.4, 0.4, 0.7)}
"""Memorization with batch norm less that without, by k and seed."""


def memorized(trial: Trial, seed: int) -> Outcome:
    """The differences above, and nothing else that the arms differ in."""
    gained = DIFFERENCES[trial.k][seed] if trial.norm == "batch" else 0.0
    return {"mem_acc": 0.01 * 3**seed + gained, "test_acc": 0.5 + 0.01 * seed}


def scattered(levels: Callable[[Trial], dict[str, float]]) -> OutcomeOf:
    """Results at levels that a trial gives, and a little beside them that depends on seed, arm and result."""

    def outcome(trial: Trial, seed: int) -> Outcome:
        little = {name: 0.001 * ((seed * 7 + len(trial.norm + name)) % 5) for name in levels(trial)}
        return {name: value * (1 + little[name]) for name, value in levels(trial).items()}

    return outcome


def planted(results: Results, sweep: str, trials: tuple[Trial, ...], outcome: OutcomeOf = memorized) -> None:
    plan(results, trials, sweep)
    record(results, trials, outcome, sweep)
    if sweep == "label_noise":
        write_layers(results, sweep, trials)


def entries(results: Results, sweep: str | None = None, partial: bool = False) -> dict[str, Entry]:
    return {entry.claim.id: entry for entry in ledger(results, sweep, partial)}


def notes(entry: Entry) -> str:
    assert entry.finding is not None
    return "; ".join(entry.finding.notes)


# The table of claims


def test_every_claim_has_a_name_of_its_own_and_a_sweep_with_its_cells():
    assert len(BY_ID) == len(CLAIMS)
    for claim in CLAIMS:
        for sweep in claim.sweeps:
            trials = [trial for scale in Scale for trial in SWEEPS[sweep].plan(scale).trials]
            assert any(map(claim.about, trials)), f"{sweep} has no cell of {claim.id}"
            for side in (claim.arm, claim.reference):
                assert side is None or any(map(replace(claim, arm=side, reference=None).about, trials)), claim.id


def test_every_figure_and_table_of_the_paper_that_measures_something_has_a_claim():
    told = " ".join(claim.place for claim in CLAIMS)
    wanted = [*(f"Fig. {number}," for number in range(1, 21)), "Table 1", "C.5", "Prop. 5.6", "Cor. 5.3"]
    assert [place for place in wanted if place not in told] == []


def test_the_command_of_a_claim_runs_its_cells(results):
    at = {claim.id: claim.command(results) for claim in CLAIMS}
    assert at["fig3-above"] == f"python -m sweeps run ood --results {results}"
    # The quick grid of the transformer has no 1%.
    assert at["table1-1pc"] == f"python -m sweeps run transformer --scale paper --results {results}"
    for claim in CLAIMS:
        scale = Scale.paper if "--scale paper" in at[claim.id] else Scale.quick
        assert any(map(claim.about, SWEEPS[claim.sweeps[0]].plan(scale).trials))


# Verdicts on records worked out by hand


def test_three_seeds_worked_out_by_hand(results):
    # See test_hypotheses for the effects and intervals. At k = 0.1 t = 0.2 / (0.1 / sqrt 3) = sqrt 12, so that
    # p = 1/2 - sqrt(12 / 14) / 2; at 0.3 t = 0.5 / 0.1 = 5, and the larger p counts. Test accuracy doesn't differ, and
    # has none.
    planted(results, "quickstart", GRID)
    found = entries(results)
    assert {name for name, entry in found.items() if entry.verdict != "not run"} == {
        *("fig1-above", "fig1-margin", "fig1-unaffected", "fig1-falls", "fig18-gap", "fig18-price", "fig18-modest")
    }
    above, margin, gap, price = (found[name] for name in ("fig1-above", "fig1-margin", "fig18-gap", "fig18-price"))
    for entry, effect, low, high, p in (
        (above, 0.35, 0.02138, 0.67862, 0.037090),
        (margin, 1.0, None, None, 0.017549),
        (gap, 0.35, 0.02138, 0.67862, 0.037090),
    ):
        finding = entry.finding
        for found, wanted in ((finding.effect, effect), (finding.low, low), (finding.high, high), (finding.p, p)):
            assert found == (None if wanted is None else pytest.approx(wanted, abs=1e-5))
        assert finding.n == 3
        assert (entry.p_holm, entry.verdict) == (1.0, "undecided")
    assert (price.finding.effect, price.p_holm, price.verdict) == (0.0, None, "undecided")
    assert "no spread" in notes(price)
    assert above.records == "quickstart on digits, lenet (of the paper's 0 of 4 datasets, 1 of 5 networks)"


def test_the_sweep_made_for_a_claim_comes_before_another_that_can_decide_it(results):
    planted(results, "quickstart", GRID)
    planted(results, "label_noise", GRID[:2])
    write_epochs(results, "label_noise", GRID[:2], {"batch": 0.1, "none": 1.0})
    assert entries(results)["fig1-above"].records.startswith("label_noise")
    assert (
        {"fig1-above", "fig18-gap"} <= set(entries(results, "quickstart")) < {name for name in BY_ID if "fig1" in name}
    )
    assert entries(results, "quickstart")["fig1-above"].records.startswith("quickstart")


def test_the_ledger_is_one_family_whatever_was_run_or_is_asked_for(results):
    """The smallest p counts as often as the ledger can give verdicts, also where another sweep's is smaller yet."""
    planted(results, "quickstart", grid(k=(0.1, 0.3), norm=("batch", "none"), seed=range(5)), plausible)
    alone = entries(results)
    smallest, name = min((entry.finding.p, name) for name, entry in alone.items() if entry.finding and entry.finding.p)
    assert alone[name].p_holm == pytest.approx(FAMILY * smallest)
    trials = grid(k=0.1, norm=("batch", "group", "instance", "layer", "none"), seed=range(5))
    planted(
        results, "normalization", trials, scattered(lambda trial: {"mem_acc": 0.1 if trial.norm == "none" else 0.9})
    )
    both, asked = entries(results), entries(results, "quickstart")
    assert both["fig17-norms"].finding.p < smallest
    assert both[name].p_holm == pytest.approx((FAMILY - 1) * smallest)
    for claim, entry in asked.items():
        assert (entry.verdict, entry.p_holm) == (both[claim].verdict, both[claim].p_holm)


def test_a_sweep_that_is_not_finished_counts_as_not_run_beside_the_one_that_is_asked_for(results):
    planted(results, "quickstart", GRID)
    trials = grid(k=0.1, norm=("batch", "none"), seed=range(3))
    planted(results, "normalization", trials)
    shard(results, trials[0], "normalization").unlink()
    assert entries(results, "quickstart")["fig1-above"].finding is not None
    with pytest.raises(BadInputError, match="normalization"):
        entries(results)


@pytest.mark.slow
def test_of_ledgers_of_null_claims_one_in_twenty_has_a_false_verdict_at_most():
    """Thirty-seven claims of which each is at its margin, so that any verdict but undecided is false."""
    ledgers, claims = 100, 37
    errors = np.random.default_rng(0).normal(size=(ledgers, claims))
    false = 0
    for of_ledger in errors:
        findings = [mean_of_intervals([(z, z - 1.959964, z + 1.959964)], 5, "greater") for z in of_ledger]
        corrected = correct(findings, 2 * claims)
        verdicts = {one.verdict(*p_values) for one, p_values in zip(findings, corrected, strict=True)}
        false += verdicts != {"undecided"}
    assert false <= stats.binom.ppf(0.999, ledgers, 0.05)


def test_every_norm_is_held_against_none(results):
    norms = ("batch", "group", "instance", "layer", "none")
    trials = grid(k=0.1, norm=norms, seed=range(4))
    by_norm = dict(zip(norms, (0.9, 0.5, 0.4, 0.05, 0.1), strict=True))
    planted(results, "normalization", trials, scattered(lambda trial: {"mem_acc": by_norm[trial.norm]}))
    entry = entries(results)["fig17-norms"]
    assert entry.verdict == "not held"
    assert "in 3 of 4 cells; not in norm=layer; significantly the other way in norm=layer" in notes(entry)


def regularized(results: Results, levels: dict[float, tuple[float, float, float]], none: float) -> dict[str, str]:
    """The verdicts on the regularizer, from memorization, clean and test accuracy by alpha and memorization without."""
    plain = grid(k=0.1, norm=("batch", "none"), seed=range(4))
    tried = grid(k=0.1, norm="batch", regularizer="log", alpha=tuple(levels), seed=range(4))

    def of_trial(trial: Trial) -> dict[str, float]:
        found = levels.get(trial.alpha, (none if trial.norm == "none" else 0.95, 0.98, 0.6))
        return dict(zip(("mem_acc", "clean_acc", "test_acc"), found, strict=True))

    planted(results, "regularizer", plain + tried, scattered(of_trial))
    return {name: entry.verdict for name, entry in entries(results).items() if name.startswith("fig8")}


def test_the_regularizer_is_held_against_no_norm_at_its_best_alpha(results):
    levels = {0.5: (0.1, 0.97, 0.4), 0.9: (0.4, 0.98, 0.5)}
    assert regularized(results, levels, none=0.2) == dict.fromkeys(
        ("fig8-mitigated", "fig8-alpha", "fig8-tradeoff"), "held"
    )
    assert "the best of 2 levels, alpha=0.5; beside it 0.97" in notes(entries(results)["fig8-mitigated"])


def test_less_memorization_at_one_alpha_and_clean_accuracy_at_another_mitigate_nothing(results):
    levels = {0.5: (0.05, 0.40, 0.3), 0.999: (0.93, 0.99, 0.5)}
    assert regularized(results, levels, none=0.3)["fig8-mitigated"] == "not held"


def test_what_falls_again_does_not_grow_with_alpha_however_its_levels_crowd(results):
    memorized = zip((0.5, 0.9, 0.99, 0.999), (0.05, 0.9, 0.6, 0.3), strict=True)
    levels = {alpha: (of_alpha, 0.97, 0.5 - 0.1 * alpha) for alpha, of_alpha in memorized}
    found = regularized(results, levels, none=0.2)
    assert (found["fig8-alpha"], found["fig8-tradeoff"]) == ("not held", "not held")


INFLUENCE = grid(k=(0.01, 0.05), norm=("batch", "none"), samples="gradients", stopping="converged", seed=range(4))


def influence(results: Results, margins: dict[str, float], converged: tuple[str, ...], over: float = 1.0) -> None:
    """Records with gamma/sigma of 3 and gradients that are `over` times what Eq. 11 says at an arm's margins."""

    def gradients(norm: str) -> tuple[float, float]:
        """Out and in: of the latter batch norm has half as large ones."""
        share = (3 * over**0.5 if norm == "batch" else 1.0) * float(expit(-margins[norm]))
        return share, share / (4 if norm == "batch" else 2)

    def outcome(trial: Trial) -> dict[str, float]:
        norms = dict(zip(("grad_norm_out", "grad_norm_in"), gradients(trial.norm), strict=True))
        return {**norms, "gamma_over_sigma": 3.0}

    plan(results, INFLUENCE, "influence")
    for trial in INFLUENCE:
        samples = [
            {
                **{"trial": trial.id, "member": member, "sample": sample, "is_member": True},
                **{"group": "corrupted" if sample < 5 else "clean", "score": margins[trial.norm] + 0.1 * sample},
                "grad_norm": (3 * over**0.5 if trial.norm == "batch" else 1.0)
                * float(expit(-margins[trial.norm] - 0.1 * sample))
                * (1 + 0.001 * seed * len(trial.norm)),
            }
            for member, seed in enumerate(trial.seed)
            for sample in range(8)
        ]
        members = [{**row, "converged": trial.norm in converged} for row in rows(trial, scattered(outcome))]
        results.write("influence", trial.id, {"members": members, "samples": samples})


def test_records_that_obey_eq_11_are_held_whatever_their_margins(results):
    influence(results, {"batch": 6.0, "none": -2.0}, ("batch",))
    found = entries(results)
    assert (found["theory-size"].verdict, found["theory-amplified"].verdict) == ("held", "held")
    assert found["theory-size"].finding.effect == pytest.approx(1, rel=0.02)
    assert found["theory-amplified"].finding.effect == pytest.approx(9, rel=0.02)


def test_records_that_do_not_obey_eq_11_are_not_held(results):
    influence(results, {"batch": 1.0, "none": 1.0}, ("batch", "none"), over=1 / 18)
    found = entries(results)
    assert (found["theory-size"].verdict, found["theory-amplified"].verdict) == ("not held", "not held")


def test_gradients_of_arms_of_which_one_has_not_converged_decide_nothing(results):
    influence(results, {"batch": 6.0, "none": -2.0}, ("batch",))
    found = entries(results)
    for name in ("fig4-arms", "fig4-contrast", "theory-shift"):
        assert (found[name].verdict, found[name].finding.n) == ("undecided", 0)
        assert "8 pairs left out: in a cell with a network that has not converged" in notes(found[name])
    assert found["fig4-groups"].verdict == "held"  # batch norm alone, which has


def test_gradients_of_arms_that_have_both_converged_are_told_in_ratios(results):
    influence(results, {"batch": 4.0, "none": 4.0}, ("batch", "none"))
    found = entries(results)
    shown = {name: entry for name, entry in found.items() if entry.verdict != "not run"}
    assert {entry.verdict for entry in shown.values()} == {"held"}
    ratios = {name: entry.finding.effect for name, entry in shown.items()}
    assert ratios == pytest.approx(
        {"fig4-arms": 3, "fig4-groups": 4, "fig4-contrast": 2}
        | {"theory-amplified": 9, "theory-size": 1, "theory-shift": 1},
        rel=0.02,
    )


# Claims with a number


@pytest.mark.parametrize(("gain", "verdict"), [(0.03, "held"), (0.30, "exceeded"), (0.01, "not held")])
def test_about_three_points_are_neither_one_nor_thirty(results, gain: float, verdict: str):
    trials = grid(corruption="ood", k=(0.1, 0.3), norm=("batch", "none"), seed=range(4))
    outcome = scattered(lambda trial: {"mem_acc": 0.69 + (gain if trial.norm == "batch" else 0.0)})
    planted(results, "ood", trials, outcome)
    assert entries(results)["fig3-above"].verdict == verdict


def test_four_of_twenty_cells_reversed_are_not_eighteen_of_twenty(results):
    trials = grid(dataset=FOUR, architecture=NETWORKS, lr=1e-3, k=0.1, norm=("batch", "none"), seed=range(4))

    def memorized(trial: Trial) -> dict[str, float]:
        turned = trial.architecture == "lenet"
        return {"mem_acc": 0.8 if (trial.norm == "batch") != turned else 0.3}

    planted(results, "learning_rate", trials, scattered(memorized))
    entry = entries(results)["fig13-most"]
    assert (entry.verdict, entry.finding.effect) == ("not held", 0.8)
    assert "16 of 20 cells, 16 of them significantly; 4 significantly the other way; claimed of 18" in notes(entry)


def test_the_numbers_of_table_1_are_those_of_each_dataset(results):
    trials = grid(dataset=("mnist", "cifar100"), architecture="vit", k=0.01, norm=("layer", "none"), seed=range(4))
    without = {"mnist": 0.055, "cifar100": 0.055}  # what it is on the one, and not on the other
    outcome = scattered(lambda trial: {"mem_acc": 0.99 if trial.norm == "layer" else without[trial.dataset]})
    planted(results, "transformer", trials, outcome)
    found = {name: entry for name, entry in entries(results).items() if name.startswith("table1")}
    run = {name: entry.verdict for name, entry in found.items() if entry.verdict != "not run"}
    held = dict.fromkeys(("table1-1pc", "table1-1pc-mnist", "table1-fit"), "held")
    assert run == {**held, "table1-1pc-cifar100": "exceeded"}
    assert found["table1-1pc-mnist"].records == "transformer on mnist, vit"
    assert found["table1-1pc"].records == "transformer on cifar100, mnist, vit (of the paper's 2 of 4 datasets)"


# The cells of the paper


def losses(results: Results, *cells: tuple[tuple[str, ...], str, float]) -> dict[str, Entry]:
    """The ledger of networks on datasets whose loss with batch norm is so many times that without."""
    found: list[tuple[Trial, float]] = []
    for datasets, network, times in cells:
        trials = grid(dataset=datasets, architecture=network, k=0.05, norm=("batch", "none"), seed=range(4))
        found += [(trial, times) for trial in trials]
    planted(results, "label_noise", tuple(trial for trial, _ in found), scattered(lambda _: {"mem_acc": 0.5}))
    for trial, times in found:
        write_epochs(results, "label_noise", (trial,), {"batch": times, "none": 1.0})
    return entries(results)


def test_a_claim_is_decided_on_the_papers_cells_and_the_others_stand_beside_it(results):
    entry = losses(results, (FOUR, "lenet", 0.1), (("mnist",), "densenet121", 3.0))["fig2-faster"]
    assert (entry.verdict, entry.records) == ("held", "label_noise on cifar10, cifar100, fashion_mnist, mnist, lenet")
    assert "in 4 of 4 cells" in notes(entry)
    assert (entry.elsewhere.verdict, entry.elsewhere.records) == ("not held", "mnist, densenet121")
    assert entry.elsewhere.finding.effect > 1


def test_where_the_paper_has_other_cells_those_decide_it(results):
    entry = losses(results, (FOUR, "lenet", 0.1), (("mnist",), "densenet121", 3.0))["fig1-above"]
    assert (entry.finding.n, entry.elsewhere) == (4, None)  # the paper's Fig. 1 has both networks
    assert "1 of 5" not in entry.records
    assert "2 of 5 networks" in entry.records


def test_where_the_records_have_none_of_the_papers_cells_what_is_there_decides_and_is_named(results):
    entry = losses(results, (("digits",), "vgg8", 0.1))["fig2-faster"]
    assert (entry.verdict, entry.elsewhere) == ("held", None)
    assert entry.records == "label_noise on digits, vgg8 (of the paper's 0 of 4 datasets, 0 of 1 networks)"


def test_every_claim_has_cells_of_the_paper_that_its_sweep_has_at_the_papers_scale():
    for claim in CLAIMS:
        trials = [trial for trial in SWEEPS[claim.sweeps[0]].plan(Scale.paper).trials if claim.about(trial)]
        for setting, levels in CELLS[claim.topic].items():
            if setting not in claim.where:
                assert set(levels) <= {getattr(trial, setting) for trial in trials}, claim.id


def test_batch_norm_is_unaffected_by_k_where_none_falls(results):
    trials = grid(k=(0.05, 0.1, 0.2, 0.3), norm=("batch", "none"), seed=range(5))
    levels = scattered(lambda trial: {"mem_acc": 0.97 if trial.norm == "batch" else 0.9 - 2 * trial.k})
    planted(results, "quickstart", trials, lambda trial, seed: {**levels(trial, seed), "n_out": 5000})
    found = entries(results)
    verdicts = {name: found[name].verdict for name in ("fig1-unaffected", "fig1-falls", "fig1-margin")}
    assert verdicts == dict.fromkeys(verdicts, "held")


# The mechanism through training

MEASURED = {"batch": {0: -2.0, 2: -3.0, 10: 0.0, 30: 3.0}, "none": {0: -2.0, 2: -5.0, 10: -4.0, 30: -2.5}}
"""The mean margin of S_out by epoch."""


def mechanism(results: Results, broken: int | None = None, share: float = 0.6, push: float = 0.1) -> dict[str, Entry]:
    """Records that obey Eq. 11 at each epoch with a gamma/sigma of 3 then, but at one that is broken."""
    trials = grid(k=0.05, norm=("batch", "none"), mechanism=4, seed=range(4))
    planted(results, "influence", trials, scattered(lambda _: {"mem_acc": 0.5, "gamma_over_sigma": 3.0}))
    for trial in trials:
        slope = 3.0 if trial.norm == "batch" else 1.0
        at = [
            ({"trial": trial.id, "member": member, "epoch": epoch}, margin, 1 + 0.001 * seed * len(trial.norm))
            for member, seed in enumerate(trial.seed)
            for epoch, margin in MEASURED[trial.norm].items()
        ]
        margins = [
            {
                **{**key, "sample": sample, "group": "corrupted" if sample < 5 else "clean"},
                **{"margin": margin + 0.1 * (sample - 2)},
                "grad_norm": slope * float(expit(-margin - 0.1 * (sample - 2))) * little * (3 if broken == epoch else 1)
                if trial.norm == "batch"
                else float(expit(-margin - 0.1 * (sample - 2))) * little,
            }
            for key, margin, little in at
            for epoch in [key["epoch"]]
            for sample in range(8)
        ]
        tables: dict[str, list[dict[str, object]]] = {"margins": margins}
        if trial.norm == "batch":
            tables["layers"] = [{**key, "depth": 0, "ratio_mean": 3.0} for key, _, _ in at]
            tables["gamma_gradients"] = [
                {**key, "depth": depth, "share_out": share * little, "size_out": 8.0, "size_in": 1.0 * little}
                | {"push_out": push * little}
                for key, _, little in at
                for depth in range(2)
            ]
        results.write("influence", trial.id, tables)
    return {name: entry for name, entry in entries(results).items() if name.startswith("theory")}


def test_records_that_obey_eq_11_at_every_epoch_are_held(results):
    found = mechanism(results)
    assert (found["theory-epochs"].verdict, notes(found["theory-epochs"])[:15]) == ("held", "in 4 of 4 cells")
    assert found["theory-epochs"].finding.effect == pytest.approx(1, rel=0.02)
    # 0 after 10 epochs with batch norm, and not within 30 without.
    assert found["theory-faster"].finding.effect == pytest.approx(3, rel=0.02)
    held = {name for name, entry in found.items() if entry.verdict == "held"}
    assert {"theory-larger", "theory-dominates", "theory-pushed"} <= held


def test_one_epoch_at_which_eq_11_is_nine_times_too_small_is_named(results):
    entry = mechanism(results, broken=10)["theory-epochs"]
    assert entry.verdict == "not held"
    assert "in 3 of 4 cells; not in measured_epoch=10 (x9)" in notes(entry)


def test_outliers_that_have_less_than_half_of_the_gradient_and_push_gamma_down_are_told(results):
    found = mechanism(results, share=0.3, push=-0.1)
    assert [found[f"theory-{name}"].verdict for name in ("larger", "dominates", "pushed")] == [
        *("held", "not held", "not held")
    ]


# Tables beside `members`


def write_epochs(results: Results, sweep: str, trials: tuple[Trial, ...], falling: dict[str, float]) -> None:
    """Losses of two epochs whose mean is an arm's."""
    for trial in trials:
        of_member = [
            {"trial": trial.id, "member": member, "epoch": epoch, "mem_loss": loss, "clean_loss": loss}
            for member, seed in enumerate(trial.seed)
            for epoch, loss in ((1, 2 * falling[trial.norm] + 0.01 * seed * len(trial.norm)), (2, 0.0))
        ]
        results.write(sweep, trial.id, {"epochs": of_member})


def write_layers(
    results: Results,
    sweep: str,
    trials: tuple[Trial, ...],
    ratios: tuple[tuple[float | None, float], ...] = ((1.0, 4.0),),
) -> None:
    """Ratios of each layer before training and at its end, large in between, of a gamma that was 1 and is a tenth."""
    for trial in trials:
        of_member = [
            {"trial": trial.id, "member": member, "epoch": epoch, "layer": f"norm{depth}", "depth": depth}
            | {"ratio_median": ratio * little, "gamma_median": ratio * little / 10 if epoch else 1.0}
            for member, seed in enumerate(trial.seed)
            for depth, (first, last) in enumerate(ratios)
            for epoch, ratio in ((0, first), (1, 99.0), (2, last))
            for little in [1 + 0.001 * epoch * (seed + depth)]
            if ratio is not None
        ]
        results.write(sweep, trial.id, {"layers": of_member if trial.norm == "batch" else []})


def test_how_fast_a_loss_falls_is_its_mean_over_epochs(results):
    trials = grid(k=(0.05, 0.1), norm=("batch", "none"), seed=range(4))
    planted(results, "label_noise", trials, scattered(lambda _: {"mem_acc": 0.5}))
    write_epochs(results, "label_noise", trials, {"batch": 0.1, "none": 1.0})
    found = entries(results)
    for name, cells in (("fig2-faster", 1), ("fig10-flipped", 2), ("fig10-clean", 2)):
        # Seed by seed the difference is -0.9 + 0.005 seed.
        assert found[name].finding.effect == pytest.approx(-0.9 + 0.005 * 1.5)
        assert (found[name].verdict, notes(found[name])[:15]) == ("held", f"in {cells} of {cells} cells")


def test_a_layer_is_a_cell_and_its_last_ratio_counts(results):
    trials = grid(k=(0.1, 0.3), norm="batch", seed=range(5))
    planted(results, "gamma_sigma", trials, scattered(lambda _: {"mem_acc": 0.5}))
    write_layers(results, "gamma_sigma", trials, ((1.0, 4.0), (1.0, 2.0), (1.0, 0.5)))
    found = entries(results)
    assert found["fig7-above"].finding.effect == pytest.approx(4 ** (1 / 3), rel=0.01)
    assert found["fig7-above"].verdict == "not held"
    assert "in 2 of 3 cells; not in depth=2" in notes(found["fig7-above"])
    assert found["fig7-early"].verdict == "held"
    # None of these has a gamma above a half.
    assert (found["theory-gamma"].verdict, found["theory-gamma"].finding.effect) == (
        "not held",
        pytest.approx(0.1 * 4 ** (1 / 3), rel=0.01),
    )
    # They are of the digits.
    assert found["theory-five"].verdict == "not run"


def test_what_training_makes_of_a_ratio_is_held_against_its_initial_one(results):
    """Of layers that all end above 1, one falls, and one was that large before."""
    trials = grid(k=(0.1, 0.3), norm="batch", seed=range(5))
    planted(results, "gamma_sigma", trials, scattered(lambda _: {"mem_acc": 0.5}))
    write_layers(results, "gamma_sigma", trials, ((8.0, 4.0), (3.0, 3.0), (1.0, 2.0)))
    found = entries(results)
    assert (found["fig7-above"].verdict, found["fig7-early"].verdict) == ("held", "held")
    emerges, beyond = found["fig7-emerges"], found["fig9-above"]
    assert (emerges.verdict, emerges.finding.effect) == ("not held", pytest.approx(1.0, rel=0.01))
    assert "not in depth=0; significantly the other way in depth=0" in notes(emerges)
    assert found["fig7-early-emerges"].verdict == "not held"
    # Over 8, 3 and 2: the last was below what counts as much greater than 1.
    assert beyond.finding.effect == pytest.approx(0.5 ** (1 / 3), rel=0.01)
    assert (beyond.verdict, notes(beyond)[:15]) == ("not held", "in 4 of 6 cells")


def test_ratios_without_an_initial_one_say_nothing_of_training(results):
    trials = grid(k=0.1, norm="batch", seed=range(3))
    planted(results, "gamma_sigma", trials, scattered(lambda _: {"mem_acc": 0.5}))
    write_layers(results, "gamma_sigma", trials, ((None, 4.0), (None, 3.0)))
    found = entries(results)
    assert found["fig7-above"].verdict == "held"
    assert found["fig7-emerges"].verdict == "undecided"
    assert "left out: no value" in notes(found["fig7-emerges"])


def test_five_on_cifar_is_told_of_its_first_layer(results):
    trials = grid(dataset=("cifar10", "mnist"), k=0.1, norm="batch", seed=range(3))
    planted(results, "gamma_sigma", trials, scattered(lambda _: {"mem_acc": 0.5}))
    write_layers(results, "gamma_sigma", trials[:1], ((5.0, 5.5), (1.0, 50.0)))
    write_layers(results, "gamma_sigma", trials[1:], ((5.0, 50.0), (1.0, 50.0)))
    five = entries(results)["theory-five"]
    assert (five.verdict, five.finding.effect, five.records) == (
        *("held", pytest.approx(1.1, rel=0.01), "gamma_sigma on cifar10, lenet (of the paper's 1 of 2 datasets)"),
    )


def test_members_without_their_layers_are_refused(results):
    trials = grid(k=0.1, norm="batch", seed=range(3))
    planted(results, "gamma_sigma", trials, scattered(lambda _: {"mem_acc": 0.5}))
    with pytest.raises(BadInputError, match=r"3 members have no layers, .*retry gamma_sigma"):
        ledger(results)


def test_membership_has_the_interval_of_the_audit(results):
    halves.write(results, *halves.TRIALS, sweep="membership")
    (entry,) = (entry for entry in ledger(results) if entry.claim.id == "fig6-flips")
    loaded = load(results, "membership")
    wanted = (
        membership.auc_differences(membership.audit_cells(loaded, results), ["lira_online"])
        .query("group == 'all'")
        .iloc[0]
    )
    found = entry.finding
    assert (found.n, found.effect) == (halves.MODELS, pytest.approx(wanted["difference"]))
    assert (found.low, found.high) == pytest.approx((wanted["low"], wanted["high"]))
    assert (entry.verdict, entry.position) == ("exceeded", "below")  # by far more than about five points


def attacked(results: Results, protocol: str, attack: str, **axes: object) -> dict[str, Entry]:
    """The ledger of models whose AUC is 0.1 higher with batch norm, and as spread over cells as without."""
    ks = ((0.01, "ood"), (0.05, "ood"), (0.01, "label"), (0.05, "label"))
    trials = tuple(
        trial
        for k, corruption in ks
        for trial in grid(k=k, corruption=corruption, norm=("batch", "none"), protocol=protocol, **axes)
    )
    plan(results, trials, "membership")
    generator = np.random.default_rng(0)
    for trial in trials:
        gain = 0.1 if trial.norm == "batch" else 0.0
        found = [
            {
                **{"trial": trial.id, "member": member, **describe(trial, seed, model), "status": "ok"},
                **{"mia_auc": 0.55 + trial.k + gain + 0.001 * generator.normal(), "mia_attack": attack},
                **{"mem_acc": 0.5 + gain, "test_acc": 0.6 + 0.01 * generator.normal()},
            }
            for member, (seed, model) in enumerate(trial.members)
        ]
        out = np.arange(40) < 16
        is_member = halves_of(out, trial.models, 0) if protocol == "splits" else np.full((1, 40), True)
        samples = [
            {
                **{"trial": trial.id, "member": member, "sample": sample, "group": "ood" if out[sample] else "clean"},
                **{"is_member": bool(is_member[model, sample]), "correct": True},
                **{"score": generator.normal() + 10 * gain * bool(is_member[model, sample])},
            }
            for member, (_, model) in enumerate(trial.members)
            for sample in range(40)
        ]
        results.write("membership", trial.id, {"members": found, "samples": samples})
    return entries(results)


def test_outliers_own_leakage_is_that_of_the_atypical_samples_alone(results):
    halves.write(results, *halves.TRIALS, sweep="membership")
    found = entries(results)
    differences = membership.auc_differences(
        membership.audit_cells(load(results, "membership"), results), ["lira_online"]
    )
    by_group = differences.set_index("group")["difference"]
    assert found["abstract-outliers"].finding.effect == pytest.approx(by_group["corrupted"])
    assert by_group["corrupted"] != pytest.approx(by_group["all"])
    assert (found["abstract-outliers"].verdict, found["abstract-samples"].finding.n) == ("held", 2)


@pytest.mark.slow
def test_models_of_one_d_are_compared_by_cells(results):
    found = attacked(results, "splits", MAIN_ATTACK, models=16, seed=(0,))
    assert (found["c5-attack"].verdict, found["c5-attack"].finding.n) == ("held", 4)
    assert "n counts cells" in notes(found["c5-attack"])
    assert (found["fig14-spread"].verdict, found["fig14-spread"].finding.n) == ("held", 4)


def adds_at_least(margin: float) -> Claim:
    """The claim that batch norm adds so much to the AUC of LiRA."""
    return replace(BY_ID["fig12-clean"], where={}, margin=margin)


def test_a_difference_in_how_well_shadows_estimate_the_arms_is_not_leakage(results, monkeypatch):
    # A member's score is as many standard deviations higher in both arms. In one, each sample's spread is its own.
    def scores(trial: Trial, seed: int) -> tuple[np.ndarray, np.ndarray]:
        is_member = halves_of(halves.OUT, 16, seed)
        own = np.exp(1.5 * np.random.default_rng(1).normal(size=halves.SAMPLES)) if trial.norm == "none" else 1.0
        shifted = 1.5 * is_member + np.random.default_rng(2 + len(trial.norm)).normal(size=is_member.shape)
        return (own * shifted).astype(np.float32), is_member

    monkeypatch.setattr(halves, "scores", scores)
    trials = tuple(replace(trial, models=16) for trial in halves.TRIALS)
    halves.write(results, *trials, sweep="membership")
    loaded = load(results, "membership")
    claim = adds_at_least(0.01)
    plain = attack_evidence(claim, loaded, results, partial=False)
    assert plain.verdict(plain.p) == "held"
    found = beyond_shadows(claim, plain, loaded, results)
    assert found.verdict(found.p) == "undecided"
    assert "not told from how well shadows estimate the arms" in found.notes


def test_a_difference_that_is_leakage_stands(results):
    halves.write(results, *halves.TRIALS, sweep="membership")
    loaded = load(results, "membership")
    claim = adds_at_least(0.03)
    found = beyond_shadows(claim, attack_evidence(claim, loaded, results, partial=False), loaded, results)
    assert found.verdict(found.p) == "held"
    assert any(note.startswith("AUC online +") for note in found.notes)


def test_claims_on_lira_are_not_decided_by_one_threshold(results):
    found = attacked(results, "full", "global_threshold", seed=range(5))
    for name in ("c5-attack", "fig14-spread", "fig20-memorized", "fig20-accuracy"):
        assert (found[name].verdict, found[name].finding.n) == ("undecided", 0)
        assert "20 pairs left out: attacked by one threshold and not by LiRA, which protocol=splits has" in notes(
            found[name]
        )
    assert "an attack needs 6 models on halves of D' in each cell" in notes(found["fig5-1pc"])


def test_a_model_that_diverged_is_left_out_of_the_audit_with_its_partner(results):
    plan(results, halves.TRIALS, "membership")
    halves.write(results, halves.TRIALS[0], lost=(2,), sweep="membership")
    halves.write(results, halves.TRIALS[1], sweep="membership")
    entry = entries(results)["fig6-flips"]
    assert entry.finding.n == halves.MODELS - 1
    assert "1 pairs left out: diverged or failed" in notes(entry)


# What is left out, and what is refused


def test_pairs_that_diverged_are_left_out_and_counted(results):
    def outcome(trial: Trial, seed: int) -> Outcome:
        return DIVERGED if (trial.norm, trial.k, seed) == ("none", 0.3, 1) else memorized(trial, seed)

    planted(results, "quickstart", GRID, outcome)
    entry = entries(results)["fig1-above"]
    assert (entry.finding.n, entry.finding.effect) == (2, pytest.approx((0.25 + 0.5) / 2))
    assert "1 pairs left out: diverged or failed" in notes(entry)
    assert "1 of 3 left out for lacking a cell" in notes(entry)


def test_one_seed_decides_nothing(results):
    planted(results, "quickstart", grid(k=(0.1, 0.3), norm=("batch", "none"), seed=(0,)))
    entry = entries(results)["fig1-above"]
    assert (entry.verdict, entry.finding.n, entry.p_holm) == ("undecided", 1, None)
    assert "too few pairs (n = 1)" in notes(entry)


def test_a_missing_partner_is_refused_unless_a_partial_grid_is_asked_for(results):
    planted(results, "quickstart", (*GRID[:2], *(trial for trial in GRID[2:] if trial.norm == "batch")))
    with pytest.raises(BadInputError) as caught:
        ledger(results)
    assert str(caught.value) == (
        "fig1-above: 3 members have no partner across norm=batch and norm=none, such as k=0.3, seed=0; "
        "--partial leaves them out."
    )
    entry = entries(results, partial=True)["fig1-above"]
    assert (entry.finding.n, entry.finding.effect) == (3, pytest.approx(0.2))
    assert "3 pairs left out: missing" in notes(entry)


def test_one_of_several_arms_without_its_partner_is_refused(results):
    whole = grid(k=0.1, norm=("batch", "none"), seed=range(3))
    planted(results, "normalization", whole + grid(k=0.1, norm="group", seed=range(2)))
    with pytest.raises(BadInputError, match="fig17-norms: 1 members have no partner"):
        ledger(results)


def test_an_incomplete_grid_is_refused(results):
    planted(results, "quickstart", GRID)
    shard(results, GRID[1], "quickstart").unlink()
    with pytest.raises(BadInputError, match="1 of 4 trials have no complete record"):
        ledger(results)


def test_a_sweep_that_is_planned_but_has_no_record_was_not_run(results):
    planted(results, "quickstart", GRID)
    plan(results, grid(corruption="ood", k=0.1, seed=(0,)), "ood")
    assert entries(results)["fig3-above"].verdict == "not run"


def test_one_arm_alone_was_not_run(results):
    planted(results, "quickstart", tuple(trial for trial in GRID if trial.norm == "batch"))
    run = {entry.claim.id for entry in ledger(results) if entry.verdict != "not run"}
    assert run == {"fig1-unaffected"}  # which is about batch norm alone


def test_a_sweep_that_no_claim_is_about_is_refused(results):
    planted(results, "quickstart", GRID)
    with pytest.raises(BadInputError, match="'quickstat': did you mean 'quickstart'"):
        ledger(results, "quickstat")


def test_only_what_the_claims_need_is_read(results):
    """Neither other tables of a sweep nor sweeps that no claim is about."""
    planted(results, "quickstart", GRID)
    for sweep, table in (("quickstart", "samples"), ("quickstart", "epochs"), ("mine", "members")):
        damaged = Path(results.location, sweep, table, f"{GRID[0].id}.parquet")
        damaged.parent.mkdir(parents=True, exist_ok=True)
        damaged.write_bytes(b"nothing")
    assert entries(results)["fig1-above"].finding is not None
