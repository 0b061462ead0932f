import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from study import engine
from study.engine import cuda_graphs
from study.engine.cuda_graphs import WARM_UP, with_cuda_graphs
from study.engine.pack import Pack
from study.networks import build
from study.training.checkpoint import decode, encode
from study.training.loop import Training
from study.training.optimizers import OPTIMIZERS
from study.trial import Trial
from tests.study.engine.test_backends import GREYS, difference, members, trial


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    """An optimizer whose steps are captured corrects its bias in the default dtype: in float32 that shows at 1e-9."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_on_a_cpu_a_step_is_left_as_it_is():
    assert with_cuda_graphs(print, torch.device("cpu")) is print


def trained_on(device: str, backend: str, *trials: Trial) -> Pack:
    """Train a member for each trial on a device, from the same initial weights on every device."""
    runs = members(GREYS, *trials, device=device)
    networks = [build.build("lenet", GREYS.shape, 4, run.trial.norm, run.seed).double().to(device) for run in runs]
    pack = engine.pack(backend, networks, GREYS.shape)
    list(Training(pack, runs))
    return pack


def assert_as_on_a_cpu(backend: str, *trials: Trial) -> None:
    on_gpu, on_cpu = (trained_on(device, backend, *trials) for device in ("cuda", "cpu"))
    for network, reference in zip(on_gpu.networks, on_cpu.networks, strict=True):
        assert difference(network.cpu(), reference) < 1e-9


# Of 24 samples, batches of 8 leave none over and batches of 7 three, which are a graph of their own.
@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["single", "grouped", "vmap"])
@pytest.mark.parametrize("batch_size", [8, 7])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_replayed_step_is_the_step(backend, batch_size, optimizer):
    # The shift of a norm that a later one takes out has a gradient of rounding, which all but SGD scale up.
    norm = "batch" if optimizer == "sgd" else "none"
    settings = trial(optimizer=optimizer, norm=norm, weight_decay=0.01, epochs=8, batch_size=batch_size)
    assert_as_on_a_cpu(backend, *[settings] * (1 if backend == "single" else 2))


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["grouped", "vmap"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_replayed_step_has_each_member_at_its_own_rate(backend, optimizer):
    settings = {"optimizer": optimizer, "norm": "none", "epochs": 8, "batch_size": 7}
    trials = [trial(lr=lr, weight_decay=decay, **settings) for lr, decay in ((1e-3, 0.0), (3e-3, 0.1), (1e-3, 0.0))]
    assert_as_on_a_cpu(backend, *trials)


def resumed_on(device: str, backend: str, *trials: Trial) -> Pack:
    """Train a member for each trial, but stop them halfway and go on with new networks from their state."""
    runs, checkpoint = members(GREYS, *trials, device=device), None
    for epochs in (4, 8):
        networks = [build.build("lenet", GREYS.shape, 4, run.trial.norm, run.seed).double().to(device) for run in runs]
        pack = engine.pack(backend, networks, GREYS.shape)
        training = Training(pack, runs)
        if checkpoint:
            training.restore(decode(checkpoint))
        for epoch in training:
            if epoch == epochs:
                checkpoint = encode(training.state())
                break
    return pack


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("backend", ["grouped", "vmap"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_that_is_resumed_is_replayed_as_if_it_had_never_been_stopped(backend, optimizer, device):
    settings = {"optimizer": optimizer, "norm": "none", "epochs": 8, "batch_size": 7}
    trials = [trial(lr=lr, **settings) for lr in (1e-3, 3e-3)]
    resumed, whole = resumed_on(device, backend, *trials), trained_on("cpu", backend, *trials)
    for network, reference in zip(resumed.networks, whole.networks, strict=True):
        assert difference(network.cpu(), reference) < (1e-9 if device == "cuda" else 1e-300)


@pytest.mark.gpu
def test_the_graphs_of_a_step_share_their_memory():
    """The graphs for two shapes of a step that needs 64 MiB hold these once."""
    total = torch.zeros((), device="cuda")

    def step(samples: Tensor) -> None:
        total.add_((torch.ones(2**24, device="cuda") * samples.sum()).sum())

    graphed = with_cuda_graphs(step, total.device)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    for size in (3, 2):
        for _ in range(WARM_UP + 1):
            graphed(torch.ones(1, size, dtype=torch.int64, device="cuda"))
        torch.cuda.empty_cache()
        if size == 3:
            of_one_graph = torch.cuda.memory_reserved() - before
    assert of_one_graph > 2**26
    assert torch.cuda.memory_reserved() - before < 1.5 * of_one_graph
    assert total.item() == (WARM_UP + 1) * (3 + 2) * 2**24


def test_a_step_at_which_the_host_waits_is_known_by_the_warning_of_torch(monkeypatch):
    """Without a GPU the mode of torch that warns is a stand-in, whose own announcement is not the warning."""
    modes = ["default"]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    with cuda_graphs._watch_waits() as waits:
        warnings.warn("Synchronization debug mode does not yet detect all synchronizing operations", stacklevel=1)
        assert modes[-1] == "warn"
        assert not waits()
        warnings.warn("called a synchronizing CUDA operation (Triggered internally)", stacklevel=1)
        assert waits()
    assert modes[-1] == "default"


@pytest.mark.gpu
@pytest.mark.parametrize("reads", [False, True])
def test_a_step_that_reads_a_value_on_the_host_is_taken_without_a_graph(reads):
    total = torch.zeros((), device="cuda", dtype=torch.int64)

    def step(samples: Tensor) -> None:
        if not reads or samples.sum().item() > 0:
            total.add_(samples.sum())

    graphed = with_cuda_graphs(step, total.device)
    for _ in range(WARM_UP + 2):
        graphed(torch.ones(1, 2, dtype=torch.int64, device="cuda"))
    assert graphed.replays == (0 if reads else 2)
    assert total.item() == 2 * (WARM_UP + 2)
    torch.rand(2, device="cuda")  # as it could not be after a capture that failed


@pytest.mark.gpu
def test_steps_without_graphs_are_the_same_and_none_is_replayed():
    runs = members(GREYS, trial(norm="none", epochs=4), device="cuda")
    packs = [
        engine.pack("single", [build.build("lenet", GREYS.shape, 4, "none", 0).double().cuda()], GREYS.shape)
        for _ in range(2)
    ]
    replays = []
    for pack, graphs in zip(packs, (True, False), strict=True):
        training = Training(pack, runs, graphs)
        list(training)
        replays.append(training.replays)
    assert replays == [4 * 3 - WARM_UP, 0]
    assert difference(*(pack.networks[0] for pack in packs)) < 1e-9
