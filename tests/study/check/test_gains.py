import pytest

from study.check import gains
from study.check.finding import Subject, Verdict
from study.check.gains import Load
from study.trial import Trial

QUICK = Subject("cpu", seconds=0.0, rounds=1)
TINY = Load("LeNet", Trial(batch_size=4), (1, 16, 16), 2, 1)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(gains, "_loads", lambda subject: [TINY])


def test_every_way_to_train_is_timed_against_the_plain_eager_loop_or_it_is_said_why_not():
    finding = gains.throughput(QUICK)
    assert finding.verdict is Verdict.PASSED
    rows = {row["way"]: row for row in finding.figures["ways"]}
    assert list(rows) == [way.name for way in gains.ways(TINY)]
    assert rows["plain loop, eager"]["ratio"] == 1.0
    timed = {name for name, row in rows.items() if row["ratio"] is not None}
    assert {"grouped, channels last", "grouped, contiguous", "vmap", "plain loop, bf16"} <= timed
    assert all(rows[name]["rate"] > 0 for name in timed)
    assert {row["note"] for name, row in rows.items() if name not in timed} == {"needs a GPU"}
    assert {"branches of one graph", "plain loop, tf32", "grouped, cudnn.benchmark"} & timed == set()


def test_a_way_that_fails_costs_no_other_its_turn(monkeypatch):
    def refuse(networks):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(gains, "_Contiguous", refuse)
    rows = {row["way"]: row for row in gains.throughput(QUICK).figures["ways"]}
    assert rows["grouped, contiguous"]["note"] == "can't: RuntimeError: no kernel"
    assert rows["grouped, bf16"]["ratio"] is not None


def test_no_way_is_begun_once_the_time_is_up(monkeypatch):
    monkeypatch.setattr(gains, "BUDGET_S", -1.0)
    rows = gains.throughput(QUICK).figures["ways"]
    assert {row["note"] for row in rows[1:]} == {"needs a GPU", "not timed: the time was up"}


def test_a_ratio_is_of_the_same_round(monkeypatch):
    rates = {"plain loop, eager": iter([5.0, 5.0, 5.0, 1.0, 10.0, 100.0]), "other": iter([2.0, 30.0, 400.0])}
    monkeypatch.setattr(gains, "ways", lambda load: [way(name) for name in rates])
    monkeypatch.setattr(gains, "_rate", lambda subject, load, way: lambda seconds: next(rates[way.name]))
    plain, other = gains.throughput(Subject("cpu", 0.0, 3)).figures["ways"]
    assert (plain["rate"], plain["ratio"]) == (5.0, 1.0)
    # 2, 3 and 4 times as fast: the ratio of the medians is another one.
    assert (other["rate"], other["ratio"]) == (30.0, 3.0)


def way(name: str) -> gains.Way:
    return gains.Way(name, gains.single)
