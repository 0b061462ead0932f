"""The claims about a tuned regularizer, from records of tunings whose verdicts are known by hand."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest

from analysis.claims.ledger import TuningEntry, tuning_ledger
from analysis.claims.memorization import CLAIMS, TUNING_CLAIMS
from analysis.metrics import NEAR_ONE
from study.record.results import Results
from study.trial import Trial
from tests.analysis.tuning import test_tradeoff as tuned
from tests.analysis.tuning.test_tradeoff import BASE, HINGE, LOG, NONE, REFERENCES, setting

ALPHAS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
NAMES = ("fig8-tuned-mitigated", "fig8-tuned-alpha", "fig8-tuned-cost")


def decide(results: Results) -> dict[str, TuningEntry]:
    return {entry.claim.id: entry for entry in tuning_ledger(tuned.only_cell(results))}


def verdicts(results: Results) -> list[str]:
    return [entry.verdict for entry in decide(results).values()]


def notes(entry: TuningEntry) -> str:
    return "; ".join(entry.finding.notes)


def write(results: Results, memorized: Mapping[float, float], kind: str = "log", none: float = 0.2) -> None:
    """Records of a search whose settings memorize what is given by alpha."""
    tried = {setting(kind, alpha): (value, 0.55, 0.93) for alpha, value in memorized.items()}
    tuned.write(results, {**REFERENCES, NONE: (none, 0.5, 0.92), **tried})


def confirm(results: Results, best: Trial, less: Iterable[float], none: Iterable[float], **changes: float) -> None:
    tuned.confirm(results, {BASE: 5 * [0.0], best: less, NONE: none}, **changes)


def test_every_claim_has_a_name_and_a_place_of_its_own():
    assert tuple(claim.id for claim in TUNING_CLAIMS) == NAMES
    assert not {claim.id for claim in CLAIMS} & set(NAMES)
    assert {claim.place for claim in TUNING_CLAIMS} == {"Fig. 8, section 6"}


def test_the_claims_are_held_where_the_records_have_them(results: Results):
    write(results, {alpha: alpha / 5 for alpha in ALPHAS}, none=0.15)
    confirm(results, setting("log", 0.5), [0.8, 0.81, 0.8, 0.8, 0.8], [0.6, 0.6, 0.6, 0.6, 0.61])
    entries = decide(results)
    assert verdicts(results) == 3 * ["held"]
    mitigated, alpha, cost = entries.values()
    assert "3 of the 6 settings" in notes(mitigated)
    assert "rho +1.00, one-sided p 0.0014, 6 settings" in notes(alpha)  # one of the 720 orders
    assert "regularizer=log alpha=0.5 -0.020 [" in notes(cost)
    assert (alpha.finding.n, alpha.finding.effect) == (6, pytest.approx(1))
    assert (mitigated.finding.n, mitigated.finding.effect) == (5, pytest.approx(-0.2))
    assert mitigated.finding.high < 0


def test_the_claims_are_not_held_where_the_records_have_the_opposite(results: Results):
    write(results, {alpha: 0.9 - alpha / 5 for alpha in ALPHAS}, "hinge")
    confirm(results, setting("hinge", 0.99), [0.2, 0.21, 0.2, 0.2, 0.2], [0.6, 0.6, 0.6, 0.6, 0.61], tested=0.01)
    assert verdicts(results) == 3 * ["not held"]


def test_less_memorization_at_a_clean_accuracy_that_is_not_near_1_is_not_what_is_claimed(results: Results):
    write(results, {alpha: alpha / 5 for alpha in ALPHAS})
    confirm(results, setting("log", 0.5), 5 * [0.8], 5 * [0.6])
    cell = tuned.only_cell(results)
    for accuracy, verdict in ((NEAR_ONE, "undecided"), (NEAR_ONE - 0.001, "undecided"), (NEAR_ONE - 0.05, "not held")):
        confirmed = cell.confirmed.assign(clean_acc=accuracy, n_in=1000)
        mitigated = tuning_ledger(replace(cell, confirmed=confirmed))[0]
        # Where all seeds differ alike there is no spread, so that nothing is held.
        assert (mitigated.verdict, mitigated.finding.effect) == (verdict, pytest.approx(-0.2))


def test_a_kind_without_a_rank_correlation_leaves_alpha_undecided(results: Results):
    tried = {setting("log", alpha): (alpha / 5, 0.55, 0.93) for alpha in ALPHAS}
    tuned.write(results, REFERENCES | tried | {HINGE: (0.3, 0.55, 0.93)})
    alpha = decide(results)["fig8-tuned-alpha"]
    assert alpha.verdict == "undecided"
    assert "hinge: too few different values among 1 settings for a rank correlation" in notes(alpha)


def test_one_setting_decides_nothing_on_alpha(results: Results):
    tuned.write(results, {**REFERENCES, LOG: (0.3, 0.55, 0.93)})
    assert decide(results)["fig8-tuned-alpha"].verdict == "undecided"


def test_where_all_settings_diverged_nothing_is_held(results: Results):
    tuned.write(results, {**REFERENCES, LOG: None, HINGE: None})
    assert set(verdicts(results)) <= {"undecided", "not held"}


def test_without_fresh_seeds_nothing_is_decided(results: Results):
    tuned.write(results, REFERENCES | tuned.SEARCHED)
    assert set(verdicts(results)) == {"undecided"}
