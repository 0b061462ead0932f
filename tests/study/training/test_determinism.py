"""What repeats on a GPU is asked for by flags of torch, which exist without a GPU."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from study.errors import BadInputError
from study.lenses import registry
from study.run import run
from study.training import determinism, loop
from study.trial import Trial
from study.worker import ENVIRONMENT

GPU = torch.device("cuda")


def flags() -> dict[str, bool]:
    return {
        "algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn": torch.backends.cudnn.deterministic,
        "benchmark": torch.backends.cudnn.benchmark,
        "fill": torch.utils.deterministic.fill_uninitialized_memory,
    }


@pytest.fixture(autouse=True)
def usual_flags() -> Iterator[None]:
    before = flags()
    yield
    assert flags() == before


def test_on_takes_what_repeats_within_the_context_and_puts_all_back():
    torch.backends.cudnn.benchmark = True
    try:
        before = flags()
        with suppress(KeyError), determinism.algorithms("on", GPU):
            assert flags() == {"algorithms": True, "cudnn": True, "benchmark": False, "fill": False}
            raise KeyError
        assert flags() == before
    finally:
        torch.backends.cudnn.benchmark = False


@pytest.mark.parametrize(("deterministic", "device"), [("off", GPU), ("on", torch.device("cpu"))])
def test_off_and_a_cpu_are_left_as_they_are(deterministic, device):
    before = flags()
    with determinism.algorithms(deterministic, device):
        assert flags() == before


def test_equal_digits_are_not_promised_where_cublas_was_given_no_fixed_workspace(monkeypatch):
    monkeypatch.delenv(determinism.CUBLAS, raising=False)
    with pytest.raises(BadInputError, match="CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment before Python starts"):
        determinism.check("on", "cuda:0")
    for deterministic, device in (("off", "cuda:0"), ("on", "cpu")):
        determinism.check(deterministic, device)
    monkeypatch.setenv(determinism.CUBLAS, ENVIRONMENT[determinism.CUBLAS])
    determinism.check("on", "cuda:0")


@pytest.mark.parametrize("deterministic", ["off", "on"])
def test_both_the_steps_and_the_measurements_of_a_trial_have_it(deterministic, monkeypatch, tmp_path: Path):
    seen = {}

    def step(*arguments, **options):
        seen["step"] = torch.are_deterministic_algorithms_enabled()
        return cross_entropy(*arguments, **options)

    def measured(*arguments):
        seen["measurement"] = torch.are_deterministic_algorithms_enabled()
        return at_end(*arguments)

    at_end = registry.at_end
    monkeypatch.setenv(determinism.CUBLAS, ENVIRONMENT[determinism.CUBLAS])
    monkeypatch.setattr(determinism, "_must_be_set", lambda wanted, device: wanted == "on")  # as if this were a GPU
    monkeypatch.setattr(loop, "cross_entropy", step)
    monkeypatch.setattr(registry, "at_end", measured)
    (member,) = run(Trial(deterministic=deterministic, subset=100, epochs=1), tmp_path, backend="single").members
    assert seen == dict.fromkeys(("step", "measurement"), deterministic == "on")
    assert member["deterministic"] == deterministic
