import json
import sys
from dataclasses import replace

import pytest
import torch

from study.__main__ import app
from study.speed import benchmark, costs
from study.speed.benchmark import Race
from study.speed.throughput import build_networks
from study.speed.workloads import Workload, workloads_on
from study.terminal import main

SMALL = Workload("lenet", (1, 16, 16), 4, 2, 3)
DEEP = Workload("deep_mlp", (1, 16, 16), 4, 2, 3, {"optimizer": "sgd", "momentum": 0.0, "hidden_layers": 2})
RACE = Race(
    SMALL,
    "grouped x 2",
    {"plain, 0 loader workers": [2.0, 4.0, 4.0], "plain, 2 loader workers": [3.0, 1.0, 1.0]},
    {"plain, 0 loader workers": [1.0, 2.0, 4.0], "single": [2.0, 4.0, 8.0], "engine": [3.0, 6.0, 20.0]},
    [1.5, 1.0, 4.0],
    [4.0, 2.0, 5.0],
    [0.5, 0.75, 0.25],
)


def test_the_measure_is_the_best_plain_loop_and_ratios_are_within_rounds():
    assert RACE.plain == "plain, 0 loader workers"
    assert RACE.ratio("single", RACE.plain) == 2.0
    # 3, 3 and 5 times as fast, round by round: not the ratio of the medians, which is another in general.
    assert RACE.ratio("engine", RACE.plain) == 3.0
    assert RACE.ratio("engine", "single") == 1.5
    # The plain loops were held against one another apart.
    assert RACE.ratio("plain, 2 loader workers", RACE.plain) == 0.25


def test_every_figure_is_in_the_json():
    figures = json.loads(json.dumps(RACE.figures()))
    assert figures["engine_over_plain"] == 3.0
    assert figures["single_over_plain"] == 2.0
    assert figures["gradient_norms_over_pass"] == 1.5
    # Ten times 160 samples, each as four in training, over 30 times 1,437.
    assert figures["mechanism_over_training"] == pytest.approx(1 + 4 * 1600 / 43110)
    assert figures["input_gradients_over_step"] == 0.5
    # 48 images, each for the time of 366 2/3 steps where an attack's takes 2/3 of one, over 30 times 718.
    assert figures["robustness_over_training"] == pytest.approx(48 * (366 + 2 / 3) / (30 * 718) * 0.5 / (2 / 3))
    assert figures["heats"] == {name: list(rates) for name, rates in RACE.heats.items()}
    assert figures["rates"] == {name: list(rates) for name, rates in RACE.rates.items()}
    assert (figures["architecture"], figures["chosen"]) == ("lenet", "grouped x 2")


@pytest.mark.parametrize(
    "contender",
    [
        lambda: benchmark.plain_loop(SMALL, "cpu", 0, 1),
        lambda: benchmark.engine_rate(SMALL.trial, SMALL.shape, 10, SMALL.batches, "cpu", "single", 1),
        lambda: benchmark.engine_rate(SMALL.trial, SMALL.shape, 10, SMALL.batches, "cpu", "grouped", 2),
        lambda: benchmark.plain_loop(DEEP, "cpu", 0, 1),
        lambda: benchmark.engine_rate(DEEP.trial, DEEP.shape, 10, DEEP.batches, "cpu", "grouped", 2),
        lambda: costs.gradient_norm_cost(SMALL, "cpu", "single", 1),
        lambda: costs.gradient_norm_cost(SMALL, "cpu", "grouped", 2),
        lambda: costs.mechanism_cost(SMALL, "cpu", "grouped", 2),
        lambda: costs.input_gradient_cost(SMALL, "cpu", "grouped", 2),
    ],
    ids=[
        *("plain", "single", "grouped", "plain descent", "grouped descent"),
        *("gradient norms", "gradient norms of a pack", "mechanism", "input gradients"),
    ],
)
def test_a_contender_says_what_came_of_its_turn(contender):
    assert contender()(0.0) > 0


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_workload_is_of_a_trial_and_a_network(device):
    for workload in workloads_on(device):
        assert workload.trial.batch_size == workload.batch_size
        assert build_networks(workload.trial, workload.shape, 10, "cpu", members=1)


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 16, 16)])
def test_the_plain_loop_learns_from_images_as_torchvision_gives_them(shape):
    given = benchmark._torchvision(replace(SMALL, shape=shape))
    image, label = given[3]
    assert (image.shape, image.dtype, label) == (shape, torch.float32, 3)
    assert len(given) == SMALL.samples
    assert 0 <= image.min() < image.max() <= 1


def test_an_architecture_that_is_not_raced_is_refused(monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["study", "bench", "--only", "lenett", "--device", "cpu"])
    with pytest.raises(SystemExit) as ended:
        main(app, "python -m study")
    assert ended.value.code == 2
    assert "did you mean 'lenet'?" in capfd.readouterr().err
