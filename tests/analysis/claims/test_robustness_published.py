"""The claims on published networks, on planted records: the paper's numbers, their reverse, and the quick scale."""

from dataclasses import replace

import pytest

from analysis.claims.ledger import ledger
from analysis.claims.robustness_published import PUBLISHED_CLAIMS
from analysis.paper import CELLS
from study.record.results import Results
from study.trial import Trial
from sweeps.registry import SWEEPS
from sweeps.sweep import Scale
from tests.analysis.published import STANDARD, Found, of_the_paper, record_published

CONTRADICTED = "g19-t10-same-batch"
"""What the paper's text says of its Table 10, and the table does not."""


def the_other_way(trial: Trial) -> Found:
    """The paper's numbers of the other arm, and of the other source."""
    norm = {"batch": "none", "none": "batch"}[trial.norm]
    if trial.source == "none":
        return of_the_paper(replace(trial, norm=norm) if "vgg" in trial.architecture else trial)
    source = trial.source.replace(trial.source.rpartition("/")[2], "batch" if trial.source.endswith("none") else "none")
    return of_the_paper(replace(trial, source=source))


@pytest.mark.parametrize("sweep", ["pretrained", "transfer"])
def test_the_papers_own_tables_hold_its_claims_but_one(sweep: str, results: Results):
    record_published(results, sweep)
    entries = {entry.claim.id: entry for entry in ledger(results, sweep)}
    assert set(entries) == {claim.id for claim in PUBLISHED_CLAIMS if claim.sweeps == (sweep,)}
    for name, entry in entries.items():
        assert entry.finding is not None
        assert entry.verdict == ("not held" if name == CONTRADICTED else "held"), name
        sign = -1 if name == CONTRADICTED else 1
        assert entry.claim.paper == pytest.approx(sign * entry.finding.effect, abs=0.0006), name


@pytest.mark.parametrize("sweep", ["pretrained", "transfer"])
def test_exchanged_arms_contradict_them(sweep: str, results: Results):
    record_published(results, sweep, the_other_way)
    verdicts = {entry.claim.id: entry.verdict for entry in ledger(results, sweep)}
    expected = dict.fromkeys(verdicts, "not held")
    assert verdicts == expected | ({CONTRADICTED: "held"} if sweep == "transfer" else {})


def test_a_point_on_2048_images_is_no_proof_and_ten_are(results: Results, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(STANDARD, "n", 2048)
    record_published(results, "pretrained")
    entries = {entry.claim.id: entry for entry in ledger(results, "pretrained")}
    assert {name: entry.verdict for name, entry in entries.items()} == {
        "g19-t5-linf": "held",
        "g19-t5-clean": "undecided",
    }
    finding = entries["g19-t5-linf"].finding
    assert finding is not None
    assert finding.n == 2048
    assert "in 4 of 4 cells" in finding.notes


def test_every_claim_has_the_papers_cells_at_the_papers_scale():
    for claim in PUBLISHED_CLAIMS:
        trials = SWEEPS[claim.sweeps[0]].plan(Scale.paper).trials
        sides = [
            [trial for trial in trials if replace(claim, arm=side, reference=None).about(trial)] for side in claim.sides
        ]
        assert all(sides), claim.id
        assert CELLS[claim.topic]["dataset"] == ("imagenet",)
    same = next(claim for claim in PUBLISHED_CLAIMS if claim.id == "g19-t10-same")
    assert not any(
        same.about(trial) for trial in SWEEPS["transfer"].plan(Scale.paper).trials if "vgg11" in trial.architecture
    )


@pytest.mark.parametrize("sweep", ["pretrained", "transfer"])
def test_the_quick_scale_decides_them_over_seeds(sweep: str, results: Results):
    def levels(trial: Trial) -> Found:
        less = 0.1 * (trial.norm == "batch")
        own = 0.18 * (trial.norm == "none" and trial.source == "lenet/none")
        return {
            **{"clean_top5": 0.98 + less / 10, "noise_top5": 0.9, "pgd_linf_top5": 0.8 - less},
            **{"transfer_acc": 0.6 - less - own, "transfer_top5": 0.9 - less - own},
        }

    record_published(results, sweep, levels, Scale.quick)
    found = {entry.claim.id: entry for entry in ledger(results, sweep)}
    name = {"pretrained": "g19-t5-linf", "transfer": "g19-t10-same"}[sweep]
    assert found[name].verdict == "held"
    assert found[name].finding is not None
    assert found[name].finding.n == 3
