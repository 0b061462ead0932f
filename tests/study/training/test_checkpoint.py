"""Training that is stopped and goes on must equal training that never was: every number bit for bit, in float64."""

import json
import math
import os
import pickle
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from study import run
from study.data.corruption import corrupt
from study.data.dataset import Dataset
from study.data.splits import training_sets
from study.engine import BACKENDS
from study.networks import build as build_module
from study.record.checkpoints import CheckpointStore
from study.record.results import Results
from study.record.rows import Records, Row
from study.record.schema import SCHEMAS
from study.speed import backend_choice
from study.speed.timings import Choice
from study.training import loop as packed
from study.training.checkpoint import Checkpoints, decode, encode
from study.training.early_stopping import state_tensors
from study.training.loop import Member
from study.training.optimizers import OPTIMIZERS
from study.trial import Trial
from tests.conftest import random_split
from tests.patience import wait_until

ROOT = Path(__file__).parents[3]
DATA = Dataset(random_split(40, 4, 1), random_split(12, 4, 2), 4, validation=random_split(16, 4, 3))
TRIAL = Trial(
    **{"k": 0.25, "validation": 0.2, "epochs": 4, "batch_size": 8, "lr": 0.01, "protocol": "splits", "models": 6},
    **{"samples": "gradients", "queries": "mirror"},
)


class StoppedError(Exception):
    """Stands in for a signal."""


@dataclass
class Once:
    """Progress that stops a run whenever it gets further than ever before."""

    reached: set[float] = field(default_factory=set)

    def __call__(self, fraction: float) -> None:
        if fraction not in self.reached:
            self.reached.add(fraction)
            raise StoppedError


@pytest.fixture
def kept(tmp_path: Path) -> CheckpointStore:
    return Results.at(tmp_path).checkpoints("sweep")


def names(kept: CheckpointStore) -> list[str]:
    folder = Path(kept.store.location) / kept.sweep / "checkpoints"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """All networks that are built, in float64."""
    found: list[nn.Module] = []
    build = build_module.build
    monkeypatch.setattr(build_module, "build", lambda *given: found.append(build(*given).double()) or found[-1])
    return found


def members(*trials: Trial) -> list[Member]:
    """A model of each trial, all on halves of one D'."""
    corrupted = corrupt(DATA.train, DATA.classes, "label", trials[0].k, seed=0)
    sets = training_sets(corrupted, trials[0].models, seed=0)
    return [Member(trial, 0, own, model) for model, (trial, own) in enumerate(zip(trials, sets, strict=False))]


def trained(
    together: Sequence[Member],
    backend: str,
    progress: run.Progress = lambda _: None,
    kept: CheckpointStore | None = None,
) -> list[Records]:
    return run.run_pack(together, DATA, "cpu", backend, progress, Checkpoints(kept, every_s=0))


def with_stops(
    together: Sequence[Member], backend: str, kept: CheckpointStore, between: Callable[[], None] = lambda: None
) -> list[Records]:
    """Return the records of a run that is stopped after each epoch, and begun again."""
    stops = Once()
    for _ in range(together[0].trial.epochs + 1):
        try:
            return trained(together, backend, stops, kept)
        except StoppedError:
            between()
    raise AssertionError("it never came to its end")


def scientific(records: Sequence[Records]) -> list[dict[str, Any]]:
    """Return the records without the times."""
    tables = [dict(each.tables) for each in records]
    for each in tables:
        each["members"] = [{**row, "seconds": None, "started": None} for row in each["members"]]
        if isinstance(each["samples"], pa.Table):
            each["samples"] = each["samples"].to_pylist()
    return tables


def assert_goes_on(
    together: Sequence[Member], backend: str, kept: CheckpointStore, built: list[nn.Module]
) -> list[Records]:
    """Assert that a stopped run ends as one that was never stopped, and return its records."""
    whole = trained(together, backend)
    once = built[-len(together) :]
    found = with_stops(together, backend, kept)
    assert scientific(found) == scientific(whole)
    for one, other in zip(built[-len(together) :], once, strict=True):
        # Bytes are compared, because those of a diverged network may be NaN, which equals nothing.
        assert [tensor.detach().numpy().tobytes() for tensor in state_tensors(one)] == [
            tensor.detach().numpy().tobytes() for tensor in state_tensors(other)
        ]
    return found


# Bit-equal


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pack_that_is_stopped_after_each_epoch_ends_as_one_that_never_was(backend, optimizer, kept, built):
    trial = replace(TRIAL, optimizer=optimizer)
    assert_goes_on(members(*[trial] * (1 if backend == "single" else 2)), backend, kept, built)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "settings",
    [
        {"norm": "none", "precision": "bf16"},
        {"norm": "group", "label_smoothing": 0.1, "weight_decay": 0.01, "eval_every": 3},
        {"regularizer": "hinge", "alpha": 0.5},
        {"stopping": "best"},
        {"stopping": "converged", "epochs": 42, "batch_size": 20, "optimizer": "sgd", "lr": 0.5, "samples": "scores"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_so_it_ends_in_every_arm(backend, settings, kept, built):
    trial = replace(TRIAL, **settings)
    assert_goes_on(members(*[trial] * (1 if backend == "single" else 2)), backend, kept, built)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_so_it_ends_where_each_member_has_a_learning_rate_of_its_own_and_one_diverges(optimizer, kept, built):
    sound = replace(TRIAL, stopping="best", optimizer=optimizer, norm="none", lr=1e-3)
    trials = [sound, replace(sound, lr=1e300), replace(sound, lr=2e-3, weight_decay=0.1)]
    found = assert_goes_on(members(*trials), "grouped", kept, built)
    assert [each.members[0]["status"] for each in found] == ["ok", "diverged", "ok"]


def test_so_it_ends_where_all_diverge(kept, built):
    lost = replace(TRIAL, optimizer="sgd", norm="none", lr=1e30)
    (found,) = assert_goes_on(members(lost), "single", kept, built)
    assert found.members[0]["error"].endswith("in epoch 1")


class Dropping(nn.Sequential):
    """A network that draws from torch's own generator."""

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        layers = nn.Flatten(), nn.Linear(math.prod(shape), 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, classes)
        super().__init__(*layers)


def test_so_it_ends_where_layers_draw_at_random(kept, built):
    trial = replace(TRIAL, architecture="tests.study.training.test_checkpoint:Dropping", norm="batch")
    assert_goes_on(members(trial), "single", kept, built)


def test_no_epoch_is_trained_twice_and_the_time_of_all_is_counted(kept, monkeypatch):
    taken: list[Tensor] = []
    ordinary = packed._make_step

    def counted(*given: Any) -> Any:
        step = ordinary(*given)
        return lambda samples: taken.append(samples) or step(samples)

    monkeypatch.setattr(packed, "_make_step", counted)
    (one,) = members(TRIAL)
    (records,) = with_stops([one], "single", kept)
    assert len(taken) == TRIAL.epochs * -(-20 // TRIAL.batch_size)
    (later,) = trained([one], "single", kept=kept)
    # The second run had nothing left to train: its seconds are those that the first had spent.
    assert len(taken) == TRIAL.epochs * -(-20 // TRIAL.batch_size)
    assert later.members[0]["started"] == records.members[0]["started"]
    assert later.members[0]["seconds"] > 0.5 * records.members[0]["seconds"]


def test_a_trial_with_several_packs_goes_on_with_the_one_that_it_was_at(tmp_path, kept, monkeypatch):
    built: list[int] = []
    build = build_module.build
    monkeypatch.setattr(build_module, "build", lambda *given: built.append(given[4]) or build(*given).double())
    trial = Trial(k=0.1, epochs=2, subset=100, seed=(0, 1, 2), samples="scores")
    given = ([trial], tmp_path, "cpu")
    (whole,) = run.run_together(*given, lambda _: None, "single")
    built.clear()
    stops = Once()
    told: list[object] = []

    def curves(_: str, member: int, rows: list[Row]) -> None:
        told.extend((member, row["epoch"]) for row in rows)

    while True:
        told.clear()
        try:
            (found,) = run.run_together(*given, stops, "single", kept, 0, curves=curves)
            break
        except StoppedError:
            continue
    assert scientific([found]) == scientific([whole])
    # Whoever watches the last try sees whole curves, those as well of the packs that others have trained.
    assert told == [(member, epoch) for member in range(3) for epoch in (1, 2)]
    # A pack is built once for each time that it was begun; after it was measured it is not built again.
    assert sorted(built) == sorted([0] * 3 + [1] * 3 + [2] * 3)
    assert len(names(kept)) == 3
    assert {name.partition("-")[0] for name in names(kept)} == {trial.id}
    kept.drop(trial.id)
    assert names(kept) == []


def test_where_it_is_known_how_members_train_a_trial_goes_on_on_a_machine_that_would_choose_otherwise(
    tmp_path, kept, monkeypatch
):
    trial = Trial(k=0.1, epochs=2, subset=100, seed=(0, 1), samples="scores")
    known = {backend_choice.key_here(trial, (1, 28, 28), 10, "cpu", "auto"): (Choice("grouped", 2, 0.1),)}
    own = iter([Choice("single", 1, 0.1), Choice("grouped", 1, 0.1)])
    monkeypatch.setattr(backend_choice, "time_backends", lambda *_: [next(own)])
    begun: list[int] = []
    restore = packed.Training.restore
    monkeypatch.setattr(
        packed.Training, "restore", lambda self, state: begun.append(state["epoch"]) or restore(self, state)
    )
    given = ([trial], tmp_path, "cpu")
    with pytest.raises(StoppedError):
        run.run_together(*given, Once(), "auto", kept, 0, known=known)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    (found,) = run.run_together(*given, lambda _: None, "auto", kept, 0, known=known)
    assert begun == [1]
    assert {(row["backend"], row["pack"]) for row in found.members} == {("grouped", 2)}


def test_nothing_is_kept_before_the_time_has_passed(kept):
    run.run_pack(members(TRIAL), DATA, "cpu", "single", lambda _: None, Checkpoints(kept))
    assert not Path(kept.store.location, kept.sweep).exists()


# What can't be used


def planted(kept: CheckpointStore, content: Callable[[bytes], bytes]) -> list[Records]:
    """Return the records of a run that is stopped after two epochs, and whose checkpoint is then changed."""
    name, left = stopped()
    kept.save(name, content(left))
    return trained(members(TRIAL, TRIAL), "grouped", kept=kept)


@cache
def stopped() -> tuple[str, bytes]:
    """Return the name and the content of what a run leaves that is stopped after two epochs."""
    with TemporaryDirectory() as folder:
        kept = Results.at(folder).checkpoints("sweep")
        with pytest.raises(StoppedError):
            trained(members(TRIAL, TRIAL), "grouped", Once({0.25}), kept)
        (name,) = names(kept)
        return name, kept.load(name)


@cache
def never_stopped() -> list[dict[str, Any]]:
    return scientific(trained(members(TRIAL, TRIAL), "grouped"))


class Planted:
    """An object that leaves a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("unpickled", "w")


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """Return the function that changes the tree of a checkpoint, and encodes it again."""

    def content(before: bytes) -> bytes:
        tree = decode(before)
        change(tree)
        return encode(tree)

    return content


def flipped(before: bytes) -> bytes:
    """Flip one bit of a weight."""
    return before[:5000] + bytes([before[5000] ^ 1]) + before[5001:]


def without_tree(before: bytes) -> bytes:
    with zipfile.ZipFile("archive.zip", "w") as archive:
        archive.writestr("tree.json", json.dumps({"dict": {"identity": 1}}))
    return Path("archive.zip").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        lambda before: b"",
        lambda before: before[: len(before) // 2],
        lambda before: before[:-1],
        flipped,
        without_tree,
        lambda before: pickle.dumps(Planted()),
        lambda before: encode([Planted.__name__]),
        changed(lambda tree: tree["identity"].update(backend="vmap")),
        changed(lambda tree: tree["training"]["networks"].pop()),
        changed(lambda tree: tree["training"]["networks"][1].pop()),
        changed(lambda tree: tree["training"]["networks"][1].__setitem__(0, torch.zeros(3, dtype=torch.float64))),
        changed(lambda tree: tree["training"]["networks"][1].__setitem__(0, "weights")),
        changed(lambda tree: tree["training"]["optimizer"][0].update(exp_avg=torch.zeros(1, dtype=torch.float64))),
        changed(lambda tree: tree["training"].update(epoch=99)),
        changed(lambda tree: tree["training"].update(diverged=[[7, "lost"]])),
        changed(lambda tree: tree["training"].update(network="another")),
        changed(lambda tree: tree["progress"]["tables"].pop()),
        changed(lambda tree: tree["progress"]["tables"][0].pop("layers")),
        changed(lambda tree: tree["progress"]["tables"][0].update(layers="none")),
        changed(lambda tree: tree["progress"].update(started="yesterday")),
        changed(lambda tree: tree["progress"].update(kept=[[0, [torch.zeros(2)]]])),
        changed(lambda tree: tree.pop("training")),
        changed(lambda tree: tree.update(records=[{}, {}])),
        changed(lambda tree: tree.update(records=1)),
    ],
)
def test_from_what_is_damaged_or_something_else_a_pack_begins_anew(content, kept, built, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = planted(kept, content)
    assert scientific(found) == never_stopped()
    assert not Path("unpickled").exists()


def test_a_pack_of_other_members_or_another_backend_has_a_checkpoint_of_its_own(kept, built):
    for together, backend in (
        (members(TRIAL, TRIAL), "grouped"),
        (members(TRIAL, TRIAL), "vmap"),
        (members(TRIAL, TRIAL)[1:], "grouped"),
        (members(replace(TRIAL, lr=0.02)), "grouped"),
    ):
        with pytest.raises(StoppedError):
            trained(together, backend, Once(), kept)
    assert len(names(kept)) == 4
    assert len({name.partition("-")[0] for name in names(kept)}) == 2


def test_a_tree_comes_back_as_it_was():
    table = pa.table({"group": pa.array(["clean", None]).dictionary_encode(), "score": [0.1, float("inf")]})
    values = [torch.tensor(1.5).bfloat16(), torch.arange(6).view(2, 3).T, torch.empty(0, 4), torch.tensor([True])]
    tree = {"numbers": [1, 0.1, None, float("inf"), True], "": {"tensor": "text", "table": values}, "found": table}
    found = decode(encode(tree))
    assert found["numbers"] == tree["numbers"]
    assert found["found"] == table
    assert found[""]["tensor"] == "text"
    for one, other in zip(found[""]["table"], values, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert torch.equal(one, other)


# A real process


QUICK = ("epochs=2", "k=0.1", "subset=200", "seed=0,1")
HELD_IN_ITS_SECOND_PACK = """
import runpy, time
from pathlib import Path
from study import run

ordinary = run.run

def held(trial, data_dir, device, progress, *rest, **more):
    def told(fraction):
        progress(fraction)
        if fraction == 0.75:
            Path("held").touch()
            time.sleep(1000)
    return ordinary(trial, data_dir, device, told, *rest, save_every_s=0, **more)

run.run = held
runpy.run_module("study", run_name="__main__")
"""


@pytest.mark.slow
def test_a_command_that_is_killed_goes_on_where_it_was(tmp_path):
    asked = ["run", *QUICK, "--results", "kept", "--backend", "single", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = subprocess.Popen([sys.executable, "-c", HELD_IN_ITS_SECOND_PACK, *asked], cwd=tmp_path, env=environment)
    wait_until(lambda: started.poll() is not None or (tmp_path / "held").exists())
    assert started.poll() is None
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    results, again = Results.at(tmp_path / "kept"), datetime.now(UTC)
    assert len(names(results.checkpoints("trials"))) == 2
    # Nobody takes it for a table, or its folder for a sweep.
    assert results.sweeps() == []
    assert results.done("trials") == set()
    assert {len(results.read("trials", table)) for table in SCHEMAS} == {0}
    subprocess.run([sys.executable, "-m", "study", *asked], cwd=tmp_path, env=environment, check=True)
    assert names(results.checkpoints("trials")) == []
    found = {table: results.read("trials", table).to_pylist() for table in ("members", "epochs", "layers")}
    assert [row["started"] < again for row in found["members"]] == [True, True]
    whole = run.run(Trial(epochs=2, k=0.1, subset=200, seed=(0, 1)), tmp_path, backend="single")
    for table, rows in found.items():
        wanted = whole.tables[table]
        for row, other in zip(rows, wanted, strict=True):
            assert {name: row[name] for name in set(other) - {"seconds", "started"}} == {
                name: other[name] for name in set(other) - {"seconds", "started"}
            }
