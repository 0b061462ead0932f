"""Do the numbers of a device repeat? Runs are made again, and resumed, and must have the same digits."""

from dataclasses import replace

import torch

from study.check.finding import Finding, Subject, judged
from study.check.small import Small, distance, largest, made_on, packed_by, tensors_of
from study.training.precision import use_full_float32

SEEDS = (0, 1)
BATCH = 64
TRAININGS = {
    (architecture, backend): Small.of(architecture, torch.float32, batch_size=BATCH, lr=1e-3, epochs=6)
    for architecture in ("lenet", "resnet18")
    for backend in ("single", "grouped")
}
"""By network and backend: in float32 by Adam with batch norm, as a trial trains."""


def again(subject: Subject) -> Finding:
    """Whether a run that is made again has the same digits."""
    return _equal(subject, resumed=False)


def resumed(subject: Subject) -> Finding:
    """Whether a run that is stopped halfway and goes on from its checkpoint has the same digits as one that wasn't."""
    return _equal(subject, resumed=True)


def _equal(subject: Subject, resumed: bool) -> Finding:
    """Compare runs as they are, and where they differ with `deterministic=on` as well."""
    what = "a resumed run and a whole one" if resumed else "two equal runs"
    apart = {"off": _apart(subject, resumed, "off")}
    if apart["off"] == 0:
        return judged(True, f"{what} have the same digits, with deterministic=off, the default", apart=apart)
    off = f"{what} differ by {apart['off']:.0e} with deterministic=off, the default"
    try:
        apart["on"] = _apart(subject, resumed, "on")
    except RuntimeError as error:
        return judged(False, f"{off}; deterministic=on can't be had: {error}", apart=apart)
    if apart["on"] == 0:
        return judged(True, f"{off}; deterministic=on gives them the same digits", apart=apart)
    return judged(False, f"{off}, and by {apart['on']:.0e} with deterministic=on as well", apart=apart)


def _apart(subject: Subject, resumed: bool, deterministic: str) -> float:
    """Return the largest difference between two runs of any of the trainings."""
    use_full_float32()
    differences = []
    for (_, backend), small in made_on(subject.device, TRAININGS).items():
        own = replace(small, trial=replace(small.trial, deterministic=deterministic))
        seeds = SEEDS if backend != "single" else SEEDS[:1]
        halfway = own.trial.epochs // 2 if resumed else 0
        runs = [
            own.train(packed_by(backend, own.shape), seeds, subject.device, stop_after=stop) for stop in (0, halfway)
        ]
        differences.append(distance(*(tensors_of(packed) for packed, _ in runs)))
    return largest(differences)
