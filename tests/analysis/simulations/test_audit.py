"""The audit as a command: every question ends, and a bad estimator is caught."""

import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.__main__ import app
from analysis.simulations import registry
from analysis.simulations.audit import FEWEST, audit, select_questions
from analysis.simulations.scenario import Measure, Scenario
from analysis.statistics.paired import paired_test
from study.errors import BadInputError
from study.terminal import main

ROOT = Path(__file__).parents[3]


def t_interval(values: np.ndarray) -> tuple[float, float]:
    test = paired_test(values, np.zeros(len(values)), "two-sided")
    assert test.low is not None
    assert test.high is not None
    return test.low, test.high


def normal_interval(values: np.ndarray) -> tuple[float, float]:
    """As if the standard deviation of five numbers were known."""
    half = 1.96 * values.std() / math.sqrt(len(values))
    return values.mean() - half, values.mean() + half


def covers(interval: Callable[[np.ndarray], tuple[float, float]]) -> Scenario:
    def draw(generator: np.random.Generator) -> tuple[bool]:
        low, high = interval(generator.normal(size=5))
        return (low <= 0 <= high,)

    return Scenario("five seeds", draw, (Measure("coverage", 0.95, least=0.95),), 500)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Callable[..., tuple[int, str, str]]:
    """The command in this process: its exit code and what it says on both streams."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["analysis", "audit-statistics", "--processes", "1", *arguments])
        with pytest.raises(SystemExit) as ended:
            main(app, "python -m analysis")
        said = capfd.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.mark.slow
@pytest.mark.parametrize("question", registry.QUESTIONS)
def test_each_question_is_answered_in_full(question: str):
    found = audit([question], fraction=0, processes=1)
    scenarios = registry.QUESTIONS[question]
    assert [(row.scenario, row.measured) for row in found] == [
        (scenario.name, measure.name) for scenario in scenarios for measure in scenario.measures
    ]
    for row in found:
        assert row.question == question
        assert math.isfinite(row.estimate), row
        assert row.error >= 0
        assert 1 <= row.replicates <= FEWEST
        assert row.least <= row.nominal <= row.most


def test_scenarios_of_a_question_have_names_of_their_own():
    for scenarios in registry.QUESTIONS.values():
        assert len({scenario.name for scenario in scenarios}) == len(scenarios)


@pytest.mark.parametrize(("interval", "code", "within"), [(t_interval, 0, True), (normal_interval, 1, False)])
def test_a_bad_estimator_is_caught(
    interval: Callable[[np.ndarray], tuple[float, float]], code: int, within: bool, command, monkeypatch
):
    monkeypatch.setattr(registry, "QUESTIONS", {"planted": (covers(interval),)})
    monkeypatch.setattr("analysis.simulations.audit.QUESTIONS", registry.QUESTIONS)
    ended, out, err = command("--format", "json")
    (table,) = json.loads(out)
    (row,) = table["rows"]
    assert (ended, row["within"]) == (code, within)
    assert (row["question"], row["scenario"], row["measured"]) == ("planted", "five seeds", "coverage")
    assert (row["nominal"], row["least"], row["most"], row["replicates"]) == (0.95, 0.95, None, 500)
    assert f"{code} of 1 rows are out of bounds" in table["notes"][0]
    assert "audit of the statistics: 100%" in err


def test_what_is_found_does_not_depend_on_the_processes_but_on_the_seed():
    one = audit(["ties"], fraction=0, processes=1)
    assert audit(["ties"], fraction=0, processes=2) == one
    assert audit(["ties"], fraction=0, processes=1, seed=1) != one


@pytest.mark.slow
def test_progress_goes_to_the_end():
    shares: list[float] = []
    audit(["ties", "shadows"], fraction=0, processes=1, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_an_unknown_question_is_refused_with_the_nearest():
    with pytest.raises(BadInputError, match="did you mean 'attacks'"):
        select_questions(["atacks"])


def test_questions_come_in_their_order_and_all_where_none_is_named():
    first, second, *_ = registry.QUESTIONS
    assert select_questions([second, first, second]) == [first, second]
    assert select_questions([]) == list(registry.QUESTIONS)


def test_the_page_has_the_rows_of_the_audit():
    told = re.findall(r"^\| ([\w-]+) \| (.+?) \| (.+?) \| (?:yes|NO) \|", (ROOT / "docs/audit.md").read_text(), re.M)
    assert [tuple(cell.replace("\\", "") for cell in row) for row in told] == [
        (question, scenario.name, measure.name)
        for question, scenarios in registry.QUESTIONS.items()
        for scenario in scenarios
        for measure in scenario.measures
    ]
