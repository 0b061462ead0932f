import copy

import pytest
import torch

from study import engine, models
from study.engine.graphs import graphed
from study.train import train
from tests.study.engine.test_backends import GREYS, difference, members, trial

ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


def test_on_a_cpu_a_step_is_left_as_it_is():
    assert graphed(print, torch.device("cpu")) is print


@ON_GPU
@pytest.mark.parametrize("backend", ["single", "grouped", "vmap"])
@pytest.mark.parametrize("batch_size", [8, 7])  # 24 samples: without and with a last batch of another size
def test_a_replayed_step_is_the_step(backend, batch_size):
    settings = trial(optimizer="sgd", epochs=8, batch_size=batch_size)
    runs = members(GREYS, *[settings] * (1 if backend == "single" else 2))
    networks = [models.build("lenet", GREYS.shape, 4, "batch", run.seed).double() for run in runs]
    packs = {}
    for device in ("cpu", "cuda"):
        moved = [copy.deepcopy(network).to(device) for network in networks]
        packs[device] = engine.pack(backend, moved, GREYS.shape)
        there = [run.__class__(run.trial, run.seed, run.corrupted.to(device)) for run in runs]
        list(train(packs[device], there))
    for one, other in zip(packs["cpu"].networks, packs["cuda"].networks, strict=True):
        assert difference(one, other.cpu()) < 1e-9
