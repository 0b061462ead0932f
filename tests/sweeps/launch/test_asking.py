import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from study.errors import BadInputError
from study.record.results import Results
from study.speed import timings
from study.trial import Trial
from sweeps.bundles import SPEED
from sweeps.launch import asking, tasks
from sweeps.launch.cluster import Pool
from sweeps.launch.launch import Launch
from sweeps.launch.schedule import MAX_FAILURES
from sweeps.launch.trials import make_units, run_trials
from tests.sweeps.launch.test_trials import SMALL, known_to_pay, outcomes


def timed(*seconds: tuple[int, float], workers: int | None = None) -> timings.Timed:
    """Packs by their size, with what a sample of one member takes."""
    return timings.Timed("a kind", tuple(timings.Choice("grouped", *each, workers) for each in seconds))


@pytest.mark.parametrize(("most_sharing", "sharing", "sizes"), [(1, 1, [6]), (2, 2, [3, 3]), (4, 2, [3, 3])])
def test_what_a_worker_says_decides_how_trials_are_bundled_and_how_many_share_a_gpu(
    monkeypatch, tmp_path, most_sharing, sharing, sizes
):
    """The workers are stood in for, as is their GPU."""
    asked: list[tuple[str, int, bool, float]] = []

    def time_kind(trial, data_dir, environment, device, members, backend, shared, epochs):
        asked.append((device, members, shared, epochs))
        return timed((1, 4.0), (2, 2.0), (4, 1.0), workers=2)

    monkeypatch.setattr(asking, "time_kind", time_kind)
    monkeypatch.setattr(ray, "remote", lambda **part: lambda work: SimpleNamespace(remote=work))
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    trials = tuple(Trial(k=0.1, lr=lr) for lr in (1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 6e-4))
    shown: list[tuple[Trial, str]] = []
    launch = Launch(
        "test", Results.at(tmp_path), str(tmp_path), trials, on_packing=lambda *packing: shown.append(packing)
    )
    units = make_units(launch, Pool(1, "cuda", 0.0, most_sharing))
    assert asked == [("cuda", 6, most_sharing > 1, 6 * 200)]
    assert shown == [(trials[0], "grouped x 4" + ", 2 to a device" * (sharing > 1))]
    assert [(len(unit.trials), unit.sharing) for unit in units] == [(size, sharing) for size in sizes]


def test_what_is_known_of_a_kind_is_not_asked_of_the_workers(monkeypatch, tmp_path):
    monkeypatch.setattr(ray, "remote", lambda **part: lambda work: SimpleNamespace(remote=None))  # can't be asked
    trials = tuple(Trial(k=0.1, lr=lr, norm=norm) for norm in ("batch", "none") for lr in (1e-4, 2e-4, 3e-4))
    size = {"batch": 2, "none": 4}
    kinds = {trial.values(SPEED): timed((1, 2.0), (size[trial.norm], 1.0)) for trial in trials}
    shown: list[str] = []
    launch = Launch(
        "test",
        Results.at(tmp_path),
        str(tmp_path),
        trials,
        timed=kinds,
        on_packing=lambda _, choice: shown.append(choice),
    )
    units = make_units(launch, Pool(1, "cpu", 0.0))
    assert shown == ["grouped x 2", "grouped x 4"]
    batch, none = kinds.values()
    assert [(len(unit.trials), unit.timed) for unit in units] == [(1, batch), (2, batch), (3, none)]


def dying_when_asked(folder: Path, deaths: int, kill: Callable[[], None]) -> Callable[..., timings.Timed]:
    """Time as ever, but the first so many processes that are asked die over it; each leaves a file."""

    def time_kind(trial: Trial, *asked: Any) -> timings.Timed:
        (folder / str(os.getpid())).touch()
        if len(list(folder.iterdir())) <= deaths:
            kill()
        known_to_pay(trial, 2)
        told = tasks.time_kind(trial, *asked)
        known_to_pay(trial, 4)  # whoever times, or reads its own cache, finds something else from now on
        return told

    return time_kind


KILLS = {"exits": lambda: os._exit(1), "is killed": lambda: os.kill(os.getpid(), signal.SIGKILL)}


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize(
    ("death", "deaths", "packs"), [("exits", 0, {2}), ("is killed", 1, {2}), ("exits", 2, {2}), ("is killed", 3, {1})]
)
def test_workers_train_as_one_has_said_and_another_is_asked_where_one_dies_over_it(
    one, tmp_path, monkeypatch, death, deaths, packs
):
    asked = tmp_path / "asked"
    asked.mkdir()
    monkeypatch.setattr(asking, "time_kind", dying_when_asked(asked, deaths, KILLS[death]))
    results, said = Results.at(tmp_path / "results"), []
    trials = tuple(Trial(k=k, **SMALL) for k in (0.1, 0.2, 0.3, 0.4))
    launch = Launch(
        "test", results, str(tmp_path), trials, backend="grouped", on_packing=lambda _, how: said.append(how)
    )
    run_trials(launch, one, lambda *_: None)
    assert outcomes(results) == {(trial.id, 0): "ok" for trial in trials}
    assert {row["pack"] for row in results.read("test", "members").to_pylist()} == packs
    assert said == (["grouped x 2"] if deaths <= MAX_FAILURES else [asking.UNTIMED])
    assert len(list(asked.iterdir())) == min(deaths, MAX_FAILURES) + 1


@pytest.mark.slow
@pytest.mark.ray
def test_a_trial_that_cannot_be_timed_is_asked_of_once_and_fails_as_it_is_run(one, tmp_path, monkeypatch):
    def refuse(trial: Trial, *asked: Any) -> timings.Timed:
        (tmp_path / f"{os.getpid()} {time.monotonic()}").touch()
        raise BadInputError("the network can't be built.")

    monkeypatch.setattr(asking, "time_kind", refuse)
    trials, said = tuple(Trial(k=k, **SMALL) for k in (0.1, 0.2)), []
    launch = Launch("test", Results.at(tmp_path), "", trials, on_packing=lambda *packing: said.append(packing))
    units = make_units(launch, one)
    assert [(len(unit.trials), unit.backend, unit.timed) for unit in units] == [(1, "auto", None)] * 2
    assert said == []
    assert len(list(tmp_path.iterdir())) == 1


def test_a_worker_that_dies_after_so_long_that_the_network_may_hang_is_not_asked_again(monkeypatch, tmp_path):
    """Ray is stood in for."""
    asked: list[Trial] = []

    def crash(_: object) -> None:
        raise ray.exceptions.WorkerCrashedError

    monkeypatch.setattr(asking, "TIMES_WITHIN_S", 0.0)
    monkeypatch.setattr(
        ray, "remote", lambda **part: lambda work: SimpleNamespace(remote=lambda trial, *_: asked.append(trial))
    )
    monkeypatch.setattr(ray, "get", crash)
    trials, said = tuple(Trial(k=0.1, lr=lr) for lr in (1e-4, 2e-4)), []
    launch = Launch("test", Results.at(tmp_path), "", trials, on_packing=lambda trial, how: said.append((trial, how)))
    units = make_units(launch, Pool(1, "cpu", 0.0))
    assert asked == [trials[0]]
    assert said == [(trials[0], asking.UNTIMED)]
    assert [unit.trials for unit in units] == [(trial,) for trial in trials]
