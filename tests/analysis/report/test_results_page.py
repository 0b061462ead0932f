"""The page of results is what the records say, and the one in `docs` is what the committed evidence says."""

import re
from pathlib import Path

import pytest

from analysis.claims.ledger import NOT_RUN, Entry, ledger
from analysis.evidence import LEFT_OUT, MOST_BYTES, take
from analysis.report.results_page import COMMENTS, results_page
from study.errors import BadInputError
from study.record.results import Results
from sweeps.registry import SWEEPS
from sweeps.sweep import Scale
from tests.analysis import planted, robust
from tests.analysis.conftest import DIVERGED, grid, plan, plausible, record

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
EVIDENCE = ROOT / "docs" / "evidence"


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("recorded")
    results, into = Results.at(folder / "results"), Results.at(folder / "evidence")
    planted.write(results, SWEEPS["gamma_sigma"].plan(Scale.quick, {}), lost=lambda trial: trial.k == 0.3)
    robust.record_attacked(results, "input_dimension", SWEEPS["input_dimension"].plan(Scale.quick).trials)
    take(results, into, every={"layers": 4})
    return into


@pytest.fixture(scope="module")
def page(evidence: Results) -> str:
    return results_page(evidence)[0]


@pytest.fixture(scope="module")
def decided(evidence: Results) -> list[Entry]:
    return [entry for entry in ledger(evidence, partial=True) if entry.verdict != NOT_RUN]


@pytest.fixture
def commented(evidence: Results):
    file = Path(evidence.location) / COMMENTS
    yield file
    file.unlink()


def section(page: str, name: str) -> str:
    return page.partition(f"\n### {name}\n")[2].partition("\n### ")[0]


def test_each_paper_has_its_sweeps_under_its_title(page: str):
    assert re.findall(r"^##+ (.*)$", page, re.MULTILINE) == [
        "The panel",
        "The paper of 2026",
        "gamma_sigma",
        "The paper of 2019",
        "input_dimension",
    ]


def test_the_verdicts_are_those_of_the_ledger(page: str, decided: list[Entry]):
    assert decided
    for entry in decided:
        assert f"| {entry.claim.id} | {entry.verdict} |" in section(page, entry.sweep)
        assert f"- `{entry.claim.id}` ({entry.claim.place}), **{entry.verdict}**: " in section(page, entry.sweep)


def test_what_is_missing_thinned_or_lost_is_said(page: str):
    said = section(page, "gamma_sigma")
    assert "5 of 30 planned members are missing" in said
    assert "Of `layers` every epoch that is a multiple of 4 was kept" in said


def test_our_numbers_stand_beside_those_of_the_papers_tables(page: str):
    said = section(page, "input_dimension")
    assert re.search(r"\*\*Table 6 of 2019 \(g19-t6\)", said)
    assert "the paper's" in said


def test_the_machine_the_hours_and_the_command_are_those_of_the_records(results: Results):
    trials = grid(k=(0.1, 0.3), norm=("batch", "none"), seed=range(3))
    plan(results, trials, "quickstart")
    came_from = {"device": "a device", "seconds": 1200.0, "git_commit": "0123456789abcdef", "git_dirty": False}
    record(results, trials, lambda trial, seed: {**plausible(trial, seed), **came_from}, "quickstart")
    page, _ = results_page(results)
    assert (
        "12 networks (dataset=digits architecture=lenet), 4 device-hours on a device; code of commit 0123456789" in page
    )
    (told,) = {saved["command"] for saved in results.plans("quickstart")}
    assert f"```\n{told}\n```" in page


def test_diverged_networks_are_counted(results: Results):
    trials = grid(k=(0.1, 0.3), norm=("batch", "none"), seed=range(3))
    plan(results, trials, "quickstart")
    record(results, trials, lambda trial, seed: plausible(trial, seed) if seed else DIVERGED, "quickstart")
    assert "4 of them diverged or failed." in results_page(results)[0]


def test_a_comment_stands_at_its_claim_and_its_sweep(evidence: Results, decided: list[Entry], commented: Path):
    entry = decided[0]
    commented.write_text(
        f'closing = "## Earlier"\n[claims.{entry.claim.id}]\nverdict = "{entry.verdict}"\nsays = "For *this* reason."\n'
        f'[sweeps]\n{entry.sweep} = "All of it."\n'
    )
    page, uncommented = results_page(evidence)
    assert re.search(rf"`{entry.claim.id}` .*\n  \*Comment:\* For \*this\* reason\.\n", page)
    assert "\n*Comment:* All of it.\n" in section(page, entry.sweep)
    assert page.endswith("\n## Earlier\n")
    assert entry.claim.id not in uncommented


def test_what_differs_from_the_paper_and_has_no_comment_is_named(evidence: Results, decided: list[Entry]):
    differing = {entry.claim.id for entry in decided if entry.verdict in ("exceeded", "not held")}
    assert set(results_page(evidence)[1]) == differing


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[claims.fig9-above]\nverdict = "exceeded"\nsays = "x"', "on the verdict 'exceeded', which is .* now"),
        ('[claims.fig1-above]\nverdict = "held"\nsays = "x"', "unknown claim with records 'fig1-above'"),
        ('[claims.fig9-above]\nsays = "x"', "can't be read"),
        ('[sweeps]\nood = "x"', "unknown sweep with records 'ood'"),
        ("[claims", "can't be read"),
        ('other = "x"', "can't be read"),
    ],
)
def test_a_comment_that_fits_nothing_is_refused(evidence: Results, commented: Path, text: str, why: str):
    commented.write_text(text)
    with pytest.raises(BadInputError, match=why):
        results_page(evidence)


def test_a_folder_without_records_gives_no_page(tmp_path: Path):
    with pytest.raises(BadInputError, match="holds no records"):
        results_page(Results.at(tmp_path))


def test_the_page_in_docs_is_what_the_evidence_says():
    renewed_by = "python -m analysis report docs/evidence --docs"
    assert (ROOT / "docs" / "results.md").read_text() == results_page(Results.at(EVIDENCE))[0], renewed_by


def test_the_evidence_is_small_and_has_no_rows_of_samples():
    files = [path for path in EVIDENCE.rglob("*") if path.is_file() and "figures" not in path.parts]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    assert {path.parent.name for path in files}.isdisjoint(LEFT_OUT)
