"""What a check is, and what it finds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch


class Verdict(StrEnum):
    """What came of a check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Finding:
    """A verdict, a sentence that says what was found, and the figures behind it, ready for JSON."""

    verdict: Verdict
    sentence: str
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """What is checked, and how long its speed is measured.

    Attributes:
        device: a torch device.
        seconds: how long each way to train takes a turn.
        rounds: how many turns it has.
    """

    device: str
    seconds: float = 0.3
    rounds: int = 3

    @property
    def on_gpu(self) -> bool:
        """Whether it is a GPU."""
        return torch.device(self.device).type == "cuda"


@dataclass(frozen=True)
class Check:
    """One question to a device.

    Attributes:
        name: as the user asks for it.
        question: what it answers, in words.
        find: finds the answer.
        gpu_only: whether it means nothing on a CPU.
    """

    name: str
    question: str
    find: Callable[[Subject], Finding]
    gpu_only: bool = False


def judged(good: bool, sentence: str, **figures: Any) -> Finding:
    """Return a finding that has passed, or failed."""
    return Finding(Verdict.PASSED if good else Verdict.FAILED, sentence, figures)
