"""The page as a program reads it; `test_browser` looks at it in a browser."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from analysis.report.page import LINES, report
from study.errors import BadInputError
from study.record.results import Results
from study.trial import Trial
from sweeps.registry import SWEEPS
from sweeps.sweep import Scale
from tests.analysis import robust
from tests.analysis.conftest import DIVERGED, Outcome, grid, plan, plausible, record, shard
from tests.analysis.statistics import test_membership as halves
from tests.analysis.tuning import test_tradeoff as tuned

GRID = grid(k=(0.1, 0.3), norm=("batch", "none"), seed=range(5))
HOSTILE = 'RuntimeError: <script>alert(1)</script> & "more"'


def came_from(seconds: float, **named: Any) -> Outcome:
    libraries = '{"python": "3.12.1", "torch": "2.15.0"}'
    origin = {"device": "a device", "git_commit": "0123456789abcdef", "git_dirty": False, "versions": libraries}
    return {"seconds": seconds, "schema_version": 2, **origin, **named}


def quickstart(trial: Trial, seed: int) -> Outcome:
    return {**plausible(trial, seed), **came_from(9.0)}


class Page(HTMLParser):
    """The page's headings, its texts by tag, and whatever it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "action", "data") and value is not None:
                self.fetched.append(value)

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.setdefault(self.open[-1], []).append(data.strip())

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Results:
    results = Results.at(tmp_path_factory.mktemp("recorded") / "results")
    plan(results, GRID, "quickstart")
    record(results, GRID, quickstart, "quickstart")
    return results


@pytest.fixture(scope="module")
def page(recorded: Results) -> str:
    return report(recorded)


def test_the_page_opens_with_ten_lines_at_most(page: str):
    lines = re.findall(r"<li>(.*?)</li>", page.partition("<nav>")[0])
    assert 4 <= len(lines) <= LINES
    assert re.fullmatch(r"quickstart, batch - none: memorization \+0\.8\d\d \[.*; n = 5 seeds\.", lines[0])
    counts = r"\d+ held, \d+ exceeded, \d+ not held( \(.*\))?, \d+ undecided"
    tested = rf"Of the \d+ claims of the paper of 2026 these records test \d+: {counts}\."
    assert re.fullmatch(tested, lines[1])
    assert lines[2] == "20 networks of 1 sweep on digits, with lenet."
    assert lines[3] == "None of them diverged or failed."
    assert lines[-1] == "0.05 device-hours on a device; code of commit 0123456789, unchanged."


def test_the_page_says_in_words_what_was_found_how_sure_that_is_and_what_it_does_not_show(page: str):
    above, _, below = page.partition('<ol id="summary">')
    found = re.search(r'<p class="found">(.*?)</p>', above)
    assert found
    assert re.fullmatch(
        r"With batch norm rather than no norm, memorization accuracy is 0\.8\d higher \[\+0\.7\d, \+0\.8\d\], .*"
        r"95% intervals over 5 seeds\)\. This is about LeNet on digits, up to \d+ epochs; "
        r"what other networks, .* it does not show\.",
        found[1],
    )
    assert 'class="found"' not in below  # there is one sweep, and that was its result


def test_a_sweeps_part_has_its_figure_then_the_test_and_then_the_table(page: str):
    _, _, part = page.partition('<section id="quickstart">')
    order = [part.index(each) for each in ("<figure>", "paired tests over seeds</h3>", "mean ± sd over seeds</h3>")]
    assert order == sorted(order)


def test_claims_that_nothing_tests_are_folded_away_with_the_command_that_would(page: str):
    _, _, ledger = page.partition('<section id="the-claims-of-2026">')
    tested, _, folded = ledger.partition("<details><summary>Claims of 2026 that no record tests")
    assert "not run" not in tested
    assert "fig1-above" in tested
    assert f"python -m sweeps run ood --results {results_in(page)}" in folded.partition("</details>")[0]


def test_the_page_fetches_nothing(page: str):
    fetched = Page(page).fetched
    assert all(link.startswith(("#", "data:")) for link in fetched)
    assert {"link", "iframe", "object"} & set(Page(page).tags) == set()
    assert "@import" not in page
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
        "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
        "http://purl.org/dc/elements/1.1/",
        "http://purl.org/dc/dcmitype/",
        "http://creativecommons.org/ns#",
        "http://www.w3.org/1999/xhtml",
    }


def test_every_part_has_a_heading_that_the_page_links_to(page: str):
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == [
        "The panel",
        "quickstart",
        "The claims of 2026",
        "The claims of 2019",
        "Excluded trials",
        "Costs",
        "Provenance",
        "Commands",
    ]
    anchors = re.findall(r'<section id="(.*?)">', page)
    assert [f"#{anchor}" for anchor in anchors] == Page(page).fetched[: len(anchors)]
    assert len(set(anchors)) == len(anchors)


def test_no_id_comes_twice(page: str):
    ids = re.findall(r'\sid="(.*?)"', page)
    assert len(ids) == len(set(ids))


def test_the_same_records_give_the_same_page(page: str, recorded: Results):
    assert report(recorded) == page


def test_a_page_has_the_tables_claims_figures_and_their_values(page: str):
    assert "fig1-above" in page
    assert f"python -m sweeps run ood --results {results_in(page)}" in page
    assert page.count("<svg") >= 2
    assert re.search(r'data-tip="[^"]*batch norm[^"]*k = 10%[^"]*"', page)


def results_in(page: str) -> str:
    found = re.search(r"python -m analysis report (\S+)", page)
    assert found
    return found[1]


def test_excluded_trials_are_listed_with_their_reason_and_nothing_is_run_as_code(results: Results):
    def outcome(trial: Trial, seed: int) -> Outcome:
        if seed != 3:
            return quickstart(trial, seed)
        reason = {"status": "failed", "error": HOSTILE} if trial.k == 0.1 else DIVERGED
        return {**reason, **came_from(1.0)}

    plan(results, GRID)
    record(results, GRID, outcome)
    page = report(results)
    assert page.count("<script>") == 1
    assert "RuntimeError: &lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "4 members of 4 trials" in page
    assert "the loss is not finite" in page
    assert "4 of them diverged or failed" in page


def test_costs_and_provenance_are_told_by_device_and_by_version_of_the_code(results: Results):
    def outcome(trial: Trial, seed: int) -> Outcome:
        named = {"device": "another", "git_commit": "fedcba9876543210", "git_dirty": True} if trial.k == 0.3 else {}
        return {**plausible(trial, seed), **came_from(360.0, **named)}

    plan(results, GRID)
    record(results, GRID, outcome)
    page = report(results)
    assert "2 device-hours in all" in page
    assert "2 combinations of code, libraries and device" in page
    assert "The records come from more than one version of the code." in page
    assert "python 3.12.1, torch 2.15.0" in page
    assert "code of 2 commits, with uncommitted changes." in page


def test_commands_are_those_that_planned_the_sweep(results: Results, monkeypatch: pytest.MonkeyPatch):
    typed = ["/somewhere/python", "-m", "sweeps", "run", "mine", "--results", "s3://key:secret@bucket/prefix"]
    monkeypatch.setattr("sys.orig_argv", typed)
    plan(results, GRID)
    record(results, GRID, quickstart)
    record(results, GRID, quickstart, "unplanned")
    page = report(results)
    assert "python -m sweeps run mine --results s3://bucket/prefix\n" in page
    assert "secret" not in page
    assert "# unplanned: recorded without a plan that names its command" in page


def test_a_partial_grid_is_refused_unless_it_may_have_holes_which_are_named(results: Results):
    plan(results, GRID)
    record(results, GRID, quickstart)
    shard(results, GRID[0]).unlink()
    with pytest.raises(BadInputError, match="1 of 4 trials have no complete record"):
        report(results)
    page = report(results, partial=True)
    assert f"mine: 5 of 20 planned members are missing, of [{GRID[0]}]." in page
    assert "5 more were planned and have no record." in page


def test_what_cannot_be_compared_is_said(results: Results):
    trials = (*GRID, *grid(k=0.2, norm="batch", seed=range(5)))
    plan(results, trials)
    record(results, trials, quickstart)
    page = report(results)
    assert "The norms are not compared: 5 members have no partner" in page


@pytest.mark.slow
def test_the_audit_and_the_trade_off_have_parts_of_their_own(results: Results):
    halves.write(results, *halves.TRIALS, sweep="halves")
    tuned.everything(results)
    page = report(results)
    assert "halves: membership inference" in page
    assert "Counterfactual memorization" in page
    assert "<h2>The trade-off</h2>" in page
    assert "Recommended, with at most 0.01 below norm=batch" in page.partition("<nav>")[0].replace("&#39;", "'")
    assert "<h2>tune_regularizer" not in page
    for verb in ("tables", "claims", "membership", "tradeoff", "figures", "report"):
        assert f"python -m analysis {verb} {results}\n" in page
    tips = re.findall(r'data-tip="(.*?)"', page)
    for told in ("hinge, alpha = 0.95: memorization ", "TPE, 5 trials: ", "samples memorized "):
        assert any(told in tip for tip in tips)


@pytest.mark.slow
def test_of_many_sweeps_the_first_and_the_recommendation_are_in_the_summary(results: Results):
    names = ["optimizer", "ood", "batch_size", "learning_rate", "normalization", "quickstart", "complex_data"]
    for name in names:
        plan(results, GRID, name)
        record(results, GRID, quickstart, name)
    tuned.everything(results)
    page = report(results)
    lines = re.findall(r"<li>(.*?)</li>", page.partition("<nav>")[0])
    assert len(lines) == LINES
    told = [line.split(",")[0].split(" on ")[0] for line in lines[:-4]]
    assert told == ["Tuned", "quickstart", "ood", "learning_rate", "batch_size", "3 more sweeps are below."]
    assert re.findall(r"<h2>(\w+)</h2>", page)[:2] == ["quickstart", "ood"]
    assert '<a href="#ood">ood</a>' in page


def test_a_long_table_is_folded_away(results: Results):
    trials = grid(k=(0.1, 0.2, 0.3), norm=("batch", "none"), lr=(0.001, 0.01), seed=range(2))
    plan(results, trials)
    record(results, trials, quickstart)
    assert "<details><summary>the norms against one another" in report(results)


def test_an_empty_folder_is_refused(tmp_path: Path):
    with pytest.raises(BadInputError, match="there is no results folder"):
        report(Results.at(tmp_path / "nowhere"))


@pytest.mark.slow
def test_a_sweep_of_the_second_paper_has_its_tables_its_attacks_and_their_warnings(results: Results):
    trials = SWEEPS["input_dimension"].plan(Scale.quick).trials
    robust.record_attacked(results, "input_dimension", trials)
    pixel = grid(norm=("batch", "none"), robustness="pixel", seed=range(3))
    robust.record_attacked(
        results, "mine", pixel, lambda trial, seed, of: 0.9 if of.steps == 100 else robust.sound(trial, seed, of)
    )
    page = report(results)
    assert "Table 6 of 2019 (g19-t6)" in page
    assert "WARNING, norm=batch: it does not hold that more steps never help" in page
    assert re.search(r"Of the \d+ claims of the paper of 2019 these records test \d+", page)
    assert "claims of the paper of 2026" not in page.partition("<nav>")[0]
    assert "accuracy under noise and attacks" in page


@pytest.mark.slow
def test_each_paper_has_a_page_and_one_panel_is_over_both(results: Results):
    robust.record_attacked(results, "input_dimension", SWEEPS["input_dimension"].plan(Scale.quick).trials)
    for name in ("quickstart", "mine"):
        plan(results, GRID, name)
        record(results, GRID, quickstart, name)
    flips = grid(norm=("batch", "none", "group"), k=0.1, corruption="label", robustness="pixel", seed=range(3))
    robust.record_attacked(results, "panel", flips, outcome=plausible)
    page = report(results)
    chapters = dict(re.findall(r'<article>\n<h1 class="chapter">(.*?)</h1>(.*?)</article>', page, re.DOTALL))
    assert {title: re.findall(r"<h2>(.*?)</h2>", text) for title, text in chapters.items()} == {
        "Both papers": ["The panel", "panel"],
        "The paper of 2026": ["quickstart", "The claims of 2026"],
        "The paper of 2019": ["input_dimension", "The claims of 2019"],
        "Other sweeps": ["mine"],
        "The records": ["Excluded trials", "Costs", "Provenance", "Commands"],
    }
    over_both = chapters["Both papers"].partition("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", over_both, re.DOTALL)[1:]
    names = [re.findall(r"<td[^>]*>(.*?)</td>", row)[0] for row in rows]
    assert names == ["quickstart", "input_dimension", "panel", "mine"]
    for heading in ("memorization", "test"):
        assert f">{heading}</th>" in over_both
    assert "the panel: means" in chapters["Both papers"]
