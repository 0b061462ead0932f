"""What is asked of an object store where a sweep of 100,000 trials is recorded: few requests, and not one by one."""

import json
from io import BytesIO
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from study.record.compaction import Compacted
from study.record.results import Results
from study.record.schema import conform_to_schema, encode_table, versioned, versioned_schema
from study.record.shards import shard_name
from study.trial import Trial
from sweeps import registry
from sweeps.__main__ import app
from sweeps.launch import cluster
from sweeps.plan import Plan
from sweeps.sweep import Scale, Sweep
from tests.stores import Store

TRIALS, MOST = 100_000, 200
COMPACTIONS = [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32]
"""The parts of the trials that each file of many has, as after a run in waves."""
LOOSE = 31
"""The most shards of one trial that a run leaves as they are."""
MISSING = 5


@pytest.fixture(scope="module")
def plan() -> Plan:
    """A plan of 100,000 trials with two members each; made of one trial, for to check each takes long."""
    first = registry.sweep("quickstart").plan(Scale.quick, {"seed": (0, 1)}).trials[0]
    return Plan("quickstart", 1, tuple(_trial(first, number) for number in range(TRIALS)))


def _trial(first: Trial, number: int) -> Trial:
    trial = object.__new__(Trial)
    trial.__dict__.update(first.__dict__, lr=1e-6 * (1 + number), cell=f"c{number:015x}", id=f"{number * 7919:016x}")
    return trial


def rows(trials: tuple[Trial, ...], status: str = "ok") -> pa.Table:
    """The members of trials, with metrics that a file can't leave out."""
    count, chance = len(trials) * 2, np.random.default_rng(len(trials))
    columns = {
        **{name: [getattr(trial, name) for trial in trials for _ in range(2)] for name in ("cell", "lr", "epochs")},
        **{"trial": [trial.id for trial in trials for _ in range(2)], "member": [0, 1] * len(trials)},
        **{"seed": [0, 1] * len(trials), "status": [status] * count, "device": ["cpu"] * count},
        **{name: chance.random(count) for name in ("mem_acc", "clean_acc", "test_acc", "mia_auc", "seconds")},
    }
    columns |= {name: [value] * count for name, value in trials[0].settings().items() if name not in columns}
    known = {name: column for name, column in columns.items() if name in versioned_schema("members").names}
    return conform_to_schema(
        "members",
        pa.table(
            {name: pa.array(column, versioned_schema("members").field(name).type) for name, column in known.items()}
        ),
    )


def record(results: Results, plan: Plan, loose: int = LOOSE) -> None:
    """Write the plan and its records, most of them compacted."""
    plan.save(results)
    done = 0
    for number, part in enumerate(COMPACTIONS, 1):
        last = number == len(COMPACTIONS)
        count = TRIALS - MISSING - done - loose if last else round(TRIALS * part)
        trials, done = plan.trials[done : done + count], done + count
        compacted, content = Compacted(f"{number:06d}-test", {}), BytesIO()
        pq.write_table(
            rows(trials).cast(versioned_schema("members")), content, row_group_size=50_000, compression="zstd"
        )
        results.store.put(compacted.published("quickstart", "members"), content.getvalue())
        shards = {"members": {trial.id: [20_000, 1_764_000_000_000_000_000] for trial in trials}}
        results.store.put(compacted.manifest("quickstart"), json.dumps(versioned({"shards": shards})).encode())
    for trial in plan.trials[done : done + loose]:
        name = shard_name("quickstart", "members", trial.id)
        results.store.put(name, encode_table("members", rows((trial,)).to_pylist()))


@pytest.fixture
def hundred_thousand(store: Store, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Results:
    """The records in a store, and the plan for whoever asks for it: to make it takes longer than all requests."""
    results = Results.at(store.uri())
    record(results, plan)
    monkeypatch.setattr(Sweep, "plan", lambda *_, **__: plan)
    store.asked.clear()
    return results


@pytest.mark.slow
def test_status_plan_and_the_start_of_run_ask_little(
    store: Store,
    hundred_thousand: Results,
    plan: Plan,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    where, asked = ["quickstart", "--results", hundred_thousand.location], {}
    monkeypatch.setattr(Plan, "saved", lambda *_: (hundred_thousand.plans("quickstart"), plan)[1])
    monkeypatch.setattr(cluster, "connect", lambda *_: interrupt())
    for command in (["status", *where], ["plan", *where], ["run", *where, "--address", "elsewhere", "--yes"]):
        store.asked.clear()
        app(command, standalone_mode=False)
        asked[command[0]] = sum(store.asked.values())
        said = " ".join(capsys.readouterr().out.split())
        assert f"{TRIALS - MISSING} done, {MISSING} missing, 0 failed, 0 diverged" in said
    assert max(asked.values()) <= MOST, asked


def interrupt() -> NoReturn:
    raise KeyboardInterrupt
