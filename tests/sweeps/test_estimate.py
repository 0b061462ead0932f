import sys
from dataclasses import replace

import pytest
import torch

from study.errors import BadInputError
from study.networks.catalog import NETWORKS
from study.record.results import Results
from study.record.rows import failed
from study.speed import timings
from study.trial import Trial
from sweeps import estimate
from sweeps.bundles import SPEED
from sweeps.estimate import Durations, Estimate, Known, check_and_time, flops, makespan


def record(results: Results, trial: Trial, seconds: float, device: str) -> None:
    rows = [{**row, "status": "ok", "seconds": seconds, "device": device} for row in failed(trial, "").members]
    results.write("test", trial.id, {"members": rows})


def test_a_training_step_is_three_forward_passes_and_a_measurement_one():
    trial = Trial(epochs=10, eval_every=5, seed=(0, 1))
    forward = NETWORKS["lenet"].operations[0]
    assert flops(trial) == 2 * (3 * 10 * 1437 + 2 * (1437 + 360)) * forward


def test_what_is_set_aside_is_measured_and_not_trained_on():
    trial = Trial(epochs=10, eval_every=5, validation=0.2)
    assert flops(trial) == (3 * 10 * (1437 - 287) + 2 * (1437 + 360)) * NETWORKS["lenet"].operations[0]


def test_epochs_at_which_the_mechanism_is_measured_take_time_and_are_at_most_those_that_there_are():
    def passes(**settings) -> float:
        return flops(Trial(epochs=10, **settings)) / (3 * NETWORKS["lenet"].operations[0])

    assert passes(mechanism=4) - passes() == pytest.approx(4 * estimate.MECHANISM_PASSES)
    assert passes(mechanism=99) - passes() == pytest.approx(11 * estimate.MECHANISM_PASSES)


def test_training_that_ends_where_it_has_converged_is_estimated_at_most_and_by_members_once_some_are_recorded(tmp_path):
    results, asked = Results.at(tmp_path), Trial(epochs=1000, stopping="converged", seed=(3, 4))
    seconds, source = Known.of([asked], results, teraflops=1.0).seconds(asked)
    assert seconds == pytest.approx(flops(asked) / 1e12)
    assert source.endswith("a GPU, at most, for training ends where a network has converged")
    for seed, taken in ((0, 10.0), (1, 30.0), (2, 20.0)):
        record(results, replace(asked, epochs=500, seed=(seed,)), taken, "a gpu")
    assert Known.of([asked], results).seconds(asked) == (2 * 20.0, "as recorded on a gpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"validation": 0.001}, "validation=0.001 of the 1437 training samples of digits would leave"),
        ({"architecture": f"{__name__}:without_gamma", "regularizer": "log", "alpha": 0.5}, "needs a gamma"),
    ],
)
def test_what_does_not_fit_the_data_or_the_network_is_found_in_any_of_the_trials(tmp_path, settings, said):
    plain = Trial(architecture=settings.get("architecture", "lenet"), k=0.1)
    with pytest.raises(BadInputError, match=said):
        check_and_time([plain, Trial.of({"k": 0.1, **settings}), plain], tmp_path, device=None)


def without_gamma(shape: tuple[int, int, int], classes: int) -> torch.nn.Module:
    layers = torch.nn.Conv2d(shape[0], 4, 28), torch.nn.BatchNorm2d(4, affine=False), torch.nn.Flatten()
    return torch.nn.Sequential(*layers, torch.nn.Linear(4, classes))


def test_hours_are_counted_at_the_stated_speed_where_nothing_is_recorded(tmp_path):
    trials = [Trial(), Trial(dataset="parquet:somewhere")]
    known = Known.of(trials, Results.at(tmp_path), teraflops=2.0)
    total = Estimate.of(trials, known)
    assert total.hours == pytest.approx(flops(Trial()) / 2e12 / 3600)
    assert (sum(total.unknown.values()), total.device) == (1, "cuda")
    assert "1 operations, at an assumed 2 teraflop/s a GPU; 1 of a dataset or network that is not" in total.source
    assert known.seconds(Trial())[0] == pytest.approx(flops(Trial()) / 2e12)


def test_where_there_is_no_gpu_a_plan_takes_what_was_timed_on_a_core_and_else_says_what_it_assumes(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(estimate, "has_gpu", lambda: False)
    timed, other = Trial(k=0.1, epochs=10, seed=range(5)), Trial(k=0.1, architecture="vgg8")
    timings.write(
        timings.cache_file(),
        timings.key_of(timed, (1, 28, 28), 10),
        [timings.Choice("single", 1, 4e-3), timings.Choice("grouped", 4, 2e-3), timings.Choice("grouped", 8, 1e-3)],
    )
    known = Known.of([timed, other], Results.at(tmp_path / "results"))
    # Five members, ten epochs of training and ten measurements, which cost a third, in packs of at most five.
    passes = 5 * 10 * (1437 + (1437 + 360) / 3)
    assert known.seconds(timed) == (pytest.approx(2e-3 * passes), "as timed on this machine")
    assert known.choice(timed) == "grouped x 4, 2.0 times as fast as one by one"
    assert known.choice(other) == ""
    assumed = flops(other) / (estimate.TERAFLOPS["cpu"] * 1e12)
    assert known.seconds(other) == (pytest.approx(assumed), "operations, at an assumed 0.1 teraflop/s a core")
    assert Estimate.of([timed, other], known).device == "cpu"


def test_what_a_launch_took_to_start_is_kept_for_the_next_estimate(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert estimate.start_up_s() == estimate.START_UP_S
    estimate.keep_start_up(31.0)
    assert estimate.start_up_s() == 31.0


@pytest.mark.parametrize(
    ("workers", "until"),
    [
        (1, 1 + 3 + 2 + 5),
        (2, 3 + 5),  # the first takes 1 and 2 and is done with both at 3, when the second is done with 3
        (3, 1 + 5),  # the first is the first to be free
        (4, 5),
        (9, 5),
    ],
)
def test_a_worker_that_is_free_takes_the_next_trial_in_line(workers, until):
    assert makespan([1, 3, 2, 5], workers) == until


def test_nothing_left_to_do_takes_no_time():
    assert makespan([], 3) == 0


def test_hours_are_read_off_records_alike_on_the_most_used_device(tmp_path):
    results = Results.at(tmp_path)
    for seed, seconds in ((0, 10.0), (1, 30.0), (2, 20.0)):
        record(results, Trial(epochs=10, seed=(seed,)), seconds, "a gpu")
    record(results, Trial(epochs=10, seed=(9,)), 9999.0, "another")
    asked = [Trial(epochs=30, seed=(5, 6)), Trial(epochs=30, norm="none")]
    known = Known.of(asked, results)
    assert [known.seconds(trial)[0] for trial in asked] == [2 * 30 * 2, None]
    hours = Estimate.of(asked, known)
    # Two seconds an epoch, the median; thirty epochs, two members.
    assert hours.hours == pytest.approx(2 * 30 * 2 / 3600)
    assert (hours.unknown, hours.device) == ({"like none recorded": 1}, "cuda")
    assert hours.source == "1 as recorded on a gpu; 1 like none recorded, and not counted"


def test_networks_that_are_not_trained_take_the_time_of_their_measurement(tmp_path):
    trial = Trial(epochs=0, seed=(0, 1))
    assert flops(trial) == 2 * (1437 + 360) * NETWORKS["lenet"].operations[0]
    results = Results.at(tmp_path)
    record(results, replace(trial, seed=(5,)), 3.0, "a gpu")
    assert Known.of([trial], results).seconds(trial) == (2 * 3.0, "as recorded on a gpu")


def test_enlarged_images_have_times_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(estimate, "has_gpu", lambda: False)
    small, large = (Trial(architecture="mlp", resize=side, epochs=1) for side in (28, 56))
    for side, seconds in ((28, 1e-3), (56, 4e-3)):
        key = timings.key_of(small, (1, side, side), 10)
        timings.write(timings.cache_file(), key, [timings.Choice("single", 1, seconds)])
    known = Known.of([small, large], Results.at(tmp_path / "results"))
    of_small, of_large = (known.seconds(trial)[0] or 0.0 for trial in (small, large))
    assert of_large == pytest.approx(4 * of_small)


def test_a_results_folder_that_is_not_there_has_no_durations(tmp_path):
    assert Durations.recorded(Results.at(tmp_path / "none")).device is None


@pytest.mark.slow
def test_measured_seconds_grow_with_epochs_and_members(tmp_path):
    short, long = (
        check_and_time([Trial(k=0.1, epochs=epochs, seed=range(seeds))], tmp_path, backend="single").seconds
        for epochs, seeds in ((1, 1), (100, 5))
    )
    assert long > 20 * short > 0


@pytest.mark.slow
def test_how_members_train_is_told_for_each_kind_as_workers_will_find_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    few = [Trial(k=k, norm=norm, batch_size=64) for k in (0.1, 0.2) for norm in ("batch", "none")]
    for trial in few[:2]:  # as if a pack of four had been timed to be fastest
        timed = [timings.Choice("grouped", 1, 1e-3), timings.Choice("grouped", 4, 4e-4)]
        timings.write(timings.cache_file(), timings.key_of(trial, (1, 28, 28), 10, backend="grouped"), timed)
    timing = check_and_time(few, tmp_path, backend="grouped", workers=1)
    choices = timing.choices
    # The launch need not ask its workers how these train fastest.
    assert timing.kinds.keys() == {trial.values(SPEED) for trial in few}
    keys = [timings.key_of(trial, (1, 28, 28), 10, backend="grouped") for trial in few[:2]]
    assert [(kind.key, kind.choices) for kind in timing.kinds.values()] == [(key, tuple(timed)) for key in keys]
    assert [(trial.norm, choice) for trial, choice in choices] == [("batch", "grouped x 4"), ("none", "grouped x 4")]
    # On one worker, trials of one member are trained together; with a worker for each, one by one.
    single = check_and_time(few, tmp_path, backend="grouped", workers=4)
    assert [choice for _, choice in single.choices] == ["grouped x 1"] * 2
    # What is bundled is so by the plan, of which one trial may be left.
    assert check_and_time(few[:1], tmp_path, backend="grouped", workers=1, planned=few).choices == choices[:1]


@pytest.mark.slow
def test_a_network_of_the_users_is_tried_in_every_arm_before_a_launch(tmp_path, monkeypatch):
    (tmp_path / "tried.py").write_text(
        "from torch import nn\n"
        "class Act(nn.BatchNorm2d):\n"
        "    def forward(self, x): return super().forward(x).relu()\n"
        "def net(shape, classes):\n"
        "    return nn.Sequential(nn.Conv2d(shape[0], 4, 3), Act(4), nn.Flatten(), nn.LazyLinear(classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    trials = [Trial(architecture="tried:net", norm=norm, k=0.1, epochs=1, subset=100) for norm in ("batch", "group")]
    with pytest.raises(BadInputError, match="batch norm '1' is a Act that does more than batch norm, and norm=group"):
        check_and_time(trials, "data")
