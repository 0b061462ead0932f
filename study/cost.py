"""What a trial costs, measured: seconds a sample of training and of prediction on one device."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from study import models
from study.corruption import corrupt
from study.data import load
from study.train import predict, train
from study.trial import Trial

BATCHES = 2
BUDGET_S = 0.25


@dataclass(frozen=True)
class Cost:
    """Seconds a sample of one pass of training, and of one of prediction."""

    train: float
    predict: float


def measure(trial: Trial, data_dir: Path, device: str) -> Cost:
    """Train on a few batches, after one pass to warm up, for a quarter of a second or one pass, whichever is longer.

    Nothing is corrupted or recorded.

    Raises:
        BadInputError: the dataset can't be had, or the settings don't fit it.
    """
    data = load(trial.dataset, data_dir, trial.subset)
    whole = corrupt(data.train, data.classes, "none", 0.0, seed=0)
    few = replace(whole, **{name: tensor[: BATCHES * trial.batch_size] for name, tensor in vars(whole).items()})
    few = few.to(device)
    network = models.build(trial.architecture, data.shape, data.classes, trial.norm, seed=0).to(device)
    # The learning rate changes no speed, but a large one could diverge here.
    passes = train(network, few, replace(trial, epochs=1_000_000, lr=1e-12), seed=0)
    next(passes)
    predict(network, few.images)
    training = _seconds(lambda: next(passes), device)
    prediction = _seconds(lambda: predict(network, few.images), device)
    return Cost(training / len(few), prediction / len(few))


def seconds(trial: Trial, cost: Cost, data_dir: Path) -> float:
    """What the trial will take on one worker: all epochs of all members, and the measurements between them."""
    data = load(trial.dataset, data_dir, trial.subset)
    measured = -(-trial.epochs // trial.eval_every) * (len(data.train) + len(data.test))
    return len(trial.seed) * (trial.epochs * len(data.train) * cost.train + measured * cost.predict)


def _seconds(work: Callable[[], object], device: str) -> float:
    """Mean seconds of one call of the work."""
    _wait(device)
    start, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - start < BUDGET_S:
        work()
        calls += 1
    _wait(device)
    return (time.perf_counter() - start) / calls


def _wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
