"""A check passes on a CPU, which computes right, and fails where something is made to compute wrong."""

from contextlib import nullcontext

import pytest
import torch
from torch.nn import functional as F

from study.check import correctness
from study.check.finding import Subject, Verdict
from study.engine.grouped import Grouped
from study.engine.pack import Single, UnfitError
from study.training import loop

HERE = Subject("cpu")


@pytest.fixture
def lenet_alone(monkeypatch):
    monkeypatch.setattr(correctness, "TRAININGS", {"LeNet": correctness.TRAININGS["LeNet"]})


def test_float32_is_full_on_a_cpu_and_shorter_products_are_seen(monkeypatch):
    assert correctness.float32(HERE).verdict is Verdict.PASSED

    def shorter(images, kernels):
        if images.dtype == torch.float32:
            # Ten bits of each factor, as TF32 has them.
            images, kernels = images.half().float(), kernels.half().float()
        return ordinary(images, kernels)

    ordinary = F.conv2d
    monkeypatch.setattr(F, "conv2d", shorter)
    finding = correctness.float32(HERE)
    assert finding.verdict is Verdict.FAILED
    assert 1e-5 < finding.figures["off"] < 1e-2


def test_packs_are_the_plain_loop_on_a_cpu():
    finding = correctness.packs(HERE)
    assert finding.verdict is Verdict.PASSED, finding.sentence
    assert finding.figures["apart"].keys() == {"grouped LeNet", "vmap LeNet", "branches LeNet"}
    assert max(finding.figures["apart"].values()) < 1e-10


def test_a_backend_that_computes_something_else_is_named(monkeypatch, lenet_alone):
    ordinary = Grouped.forward

    def forward(self, images, regularizer="none"):
        logits, penalty = ordinary(self, images, regularizer)
        return logits * (1 + 1e-6), penalty

    monkeypatch.setattr(correctness, "packed_by", lambda backend, shape: Grouped if backend == "grouped" else refuse)
    monkeypatch.setattr(Grouped, "forward", forward)
    finding = correctness.packs(HERE)
    assert finding.verdict is Verdict.FAILED
    assert "grouped LeNet" in finding.sentence
    # Those that don't fit are no failure, but told.
    assert finding.figures["unfit"] == ["vmap LeNet", "branches LeNet"]
    assert "vmap LeNet" in finding.sentence


def refuse(networks):
    raise UnfitError("no")


def test_numbers_that_are_not_finite_are_no_equal_ones(monkeypatch, lenet_alone):
    monkeypatch.setattr(Grouped, "forward", lambda self, images, regularizer="none": nan(images))
    monkeypatch.setattr(correctness, "packed_by", lambda backend, shape: Grouped)
    assert correctness.packs(HERE).verdict is Verdict.FAILED


def nan(images):
    return torch.full((len(images), images.shape[1], 10), float("nan"), dtype=images.dtype, requires_grad=True), 0


def test_the_same_device_trains_the_same_networks_and_another_result_is_seen(monkeypatch, lenet_alone):
    assert correctness.as_on_the_cpu(HERE).figures["apart"] == {"LeNet": 0.0}
    scales = iter((1.0, 1.0 + 1e-4))
    ordinary, makers = Single.forward, {}

    def forward(self, images, regularizer="none"):
        logits, penalty = ordinary(self, images, regularizer)
        if self not in makers:
            makers[self] = next(scales)
        return logits * makers[self], penalty

    monkeypatch.setattr(Single, "forward", forward)
    assert correctness.as_on_the_cpu(HERE).verdict is Verdict.FAILED


def test_steps_of_which_none_is_replayed_are_a_failure():
    finding = correctness.replay(HERE)
    assert finding.verdict is Verdict.FAILED
    assert "no step of LeNet could be captured" in finding.sentence


def test_dropout_repeats_and_one_that_draws_from_no_stream_is_seen(monkeypatch):
    finding = correctness.fallback(HERE)
    assert finding.verdict is Verdict.PASSED, finding.sentence
    assert finding.figures["apart"] == {"dropout": 0.0, "reads a value on the host": 0.0}
    monkeypatch.setattr(loop.seeds, "torch_stream", lambda *_, **__: nullcontext())
    assert correctness.fallback(HERE).verdict is Verdict.FAILED
