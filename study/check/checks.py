"""The checks of a device, in the order in which they are made."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from study.check import correctness, gains, repeats
from study.check.finding import Check, Finding, Subject, Verdict
from study.imports import reason
from study.record.provenance import device_name

CHECKS: Mapping[str, Check] = {
    check.name: check
    for check in (
        Check("float32", "Are products of float32 that precise?", correctness.float32),
        Check("cpu", "Does it train the networks that the CPU trains?", correctness.as_on_the_cpu, gpu_only=True),
        Check("replay", "Are steps replayed from a CUDA graph the steps?", correctness.replay, gpu_only=True),
        Check("packs", "Does each member of a pack train as it does alone?", correctness.packs),
        Check("fallback", "Do dropout, and what no graph can hold, train?", correctness.fallback),
        Check("again", "Do equal runs have the same digits?", repeats.again),
        Check("resumed", "Does a resumed run have the digits of a whole one?", repeats.resumed),
        Check("memory", "How much memory do packs take?", gains.memory, gpu_only=True),
        Check("throughput", "How fast is each way to train?", gains.throughput),
    )
}
"""Every check by its name."""


@dataclass(frozen=True)
class Answer:
    """What a check found, and how many seconds it took."""

    check: Check
    finding: Finding
    seconds: float


def answer(check: Check, subject: Subject) -> Answer:
    """Make a check; one that ends in an error has failed."""
    start = time.perf_counter()
    if check.gpu_only and not subject.on_gpu:
        finding = Finding(Verdict.NOT_APPLICABLE, f"needs a GPU, which {subject.device} is not")
    else:
        try:
            finding = check.find(subject)
        except Exception as error:  # whatever a device does wrong must not keep the other checks from being made
            finding = Finding(Verdict.FAILED, f"ended in an error: {reason(error)}")
    return Answer(check, finding, time.perf_counter() - start)


def failed(answers: Sequence[Answer]) -> list[str]:
    """Return the names of the checks that have failed."""
    return [each.check.name for each in answers if each.finding.verdict is Verdict.FAILED]


def report(answers: Sequence[Answer], subject: Subject) -> str:
    """Return everything that was found as JSON."""
    content: dict[str, Any] = {
        "device": device_name(subject.device),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if subject.on_gpu else None,
        "passed": not failed(answers),
        "checks": [
            {
                "name": each.check.name,
                "question": each.check.question,
                "verdict": each.finding.verdict.value,
                "found": each.finding.sentence,
                "seconds": each.seconds,
                **each.finding.figures,
            }
            for each in answers
        ],
    }
    return json.dumps(content, indent=1) + "\n"
