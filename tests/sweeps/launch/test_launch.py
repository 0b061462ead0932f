import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from study.record.results import Results
from study.terminal import main
from sweeps import __main__ as commands
from sweeps import registry
from sweeps.launch.launch import Cluster, Launch
from sweeps.sweep import Scale
from tests.test_layering import loaded


def test_a_launch_is_described_without_ray_and_its_memory():
    modules = "sweeps.launch.launch, sweeps.launch.tasks, sweeps.console, sweeps.tuning.space"
    assert loaded(f"import {modules}") & {"ray", "torch", "optuna"} == set()


def test_a_launch_is_replaced_and_not_changed(tmp_path: Path):
    launch = Launch("quickstart", Results.at(tmp_path), str(tmp_path))
    with pytest.raises(FrozenInstanceError):
        launch.backend = "single"  # type: ignore[misc]
    assert replace(launch, backend="single").backend == "single"
    assert (launch.backend, launch.callbacks("quickstart"), dict(launch.timed)) == ("auto", (), {})


def test_run_retry_and_tune_make_the_same_launch_of_the_same_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    planned = registry.sweep("quickstart").plan(Scale.quick)
    planned.save(Results.at(tmp_path))
    launches: list[tuple[Launch, bool]] = []

    def keep(_: Any, launch: Launch, loggers: Any, yes: bool, *rest: Any, **more: Any) -> None:
        launches.append((launch, yes))

    monkeypatch.setattr(commands, "run_and_report", keep)
    monkeypatch.setattr(commands, "run_tunings", keep)
    monkeypatch.setattr(commands, "print_tuning_summary", lambda tuning: True)
    for arguments in (
        ["run", "quickstart", "--time-limit", "9", "--limit", "3"],
        ["retry", "quickstart", "--time-limit", "9"],
        ["tune", "regularizer"],
    ):
        options = ["--results", str(tmp_path), "--data-dir", "images", "--address", "auto", "--workers", "3"]
        monkeypatch.setattr(sys, "argv", ["sweeps", *arguments, *options, "--device", "cpu", "--backend", "vmap", "-y"])
        with pytest.raises(SystemExit) as ended:
            main(commands.app, "python -m sweeps")
        assert not ended.value.code
    (run, _), (retry, _), (tune, _) = launches
    assert all(yes for _, yes in launches)
    assert {launch.cluster for launch, _ in launches} == {Cluster("auto", 3, "cpu")}
    assert {(launch.data_dir, launch.backend) for launch, _ in launches} == {(str(Path("images").absolute()), "vmap")}
    assert {launch.results.location for launch, _ in launches} == {str(tmp_path)}
    assert (run.time_limit, retry.time_limit, tune.time_limit) == (9, 9, None)
    assert (run.trials, retry.trials, tune.trials) == (planned.trials[:3], planned.trials, ())
    assert run.planned == retry.planned == planned.trials
    assert (run.sweep, retry.sweep) == ("quickstart", "quickstart")
