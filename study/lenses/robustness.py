"""The lens on robustness: what is left of the test accuracy under noise and attacks (Galloway et al., 2019).

What is done to the images is stated in `study.perturbations`, and how in the other files of `study.attacks`. All of it
is in eval mode, with the weights at which a member is reported. Noise and random starts are drawn for each image by the
member's seed, alike in all arms. No result depends on the size of a batch or of a pack.

Two controls go along with batch norm: the test accuracy with the statistics of each batch, and with statistics that are
estimated anew after training.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from study.attacks import descent
from study.attacks.balls import BALLS
from study.attacks.descent import Descent, attack
from study.attacks.draws import Draws
from study.attacks.outcome import Outcome, join, judge
from study.attacks.transfer import linear_source, trained_source
from study.corruptions.test_set import CorruptedTestSet
from study.data import cifar10_1
from study.data.dataset import Dataset, Split, enlarge, to_float
from study.data.splits import drawn_by_class
from study.engine import Pack
from study.errors import BadInputError
from study.lenses.trained import INITIAL_SAMPLES, Trained
from study.networks.norms import running_statistics_of
from study.networks.standardize import Standardize
from study.perturbations import CHECKED, CIFAR10_1, Perturbation, has_second_test_set, images_of, passes, perturbations
from study.record.rows import Measurement, Measurements, Row
from study.training.loop import PREDICT_BATCH, image_batches, images_at_once, predict
from study.trial import Trial

QUANTIZED_BITS = 7
"""How finely the probabilities are told apart whose entropy is `output_bits`."""


def wanted(trial: Trial) -> bool:
    """Return whether the trial asks for robustness."""
    return bool(trial.suites)


def check(trial: Trial, network: nn.Module, data: Dataset) -> None:
    """Refuse a suite that the dataset or the network can't have.

    Raises:
        BadInputError: a suite can't be had, there are fewer test images than are to be attacked, or the network has no
            gradient in its images.
    """
    perturbations(trial.suites, trial.dataset, data.shape)
    if "corruptions" in trial.suites:
        CorruptedTestSet(trial.dataset, data)
    standardized = next((suite for suite in ("paper2019", "transfer") if suite in trial.suites), None)
    if standardized and trial.standardize == "none" and trial.dataset != "spheres":
        raise BadInputError(
            f"robustness={standardized} measures in the space of standardized images: set standardize=paper2019, or "
            "standardize=dataset where that paper has no constants."
        )
    if _second_test_set(trial, data) is None and "paper2019" in trial.suites and has_second_test_set(trial.dataset):
        cifar10_1.say_missing(data.folder)
    attacked = attacked_samples(trial, data.test)
    if trial.suites == ("corruptions",):
        return  # they are shown to the network as they are
    images = to_float(data.test.images[attacked[:2]], torch.float32).requires_grad_()
    logits = network.eval()(images)
    if not logits.requires_grad or torch.autograd.grad(logits.sum(), images, allow_unused=True)[0] is None:
        raise BadInputError(f"robustness={trial.robustness} needs a network with a gradient in its images.")


def cost(trial: Trial, data: Dataset) -> float:
    """Return what the lens costs a member, in samples trained on, among them those of its source."""
    training = trial.epochs * len(data.train) * (trial.source != "none")
    return training + passes(trial.suites, trial.dataset, data.shape, trial.attack_samples or len(data.test))


def attacked_samples(trial: Trial, test: Split) -> Tensor:
    """Return which test images are attacked, int64 ascending: a draw by class that is the same for all seeds and arms.

    Raises:
        BadInputError: there are fewer of them.
    """
    if trial.attack_samples > len(test):
        raise BadInputError(
            f"attack_samples={trial.attack_samples} are more than the {len(test)} test images of {trial.dataset}."
        )
    return drawn_by_class(test.labels, trial.attack_samples)


def at_end(trained: Trained) -> Measurements:
    """Measure each perturbation, the rows of `robustness` and columns of `members`; each is kept once it is done."""
    lens = _Lens(trained)
    for each in lens.perturbations:
        if each.key not in trained.notes:
            trained.notes[each.key] = lens.rows(each)
            trained.done(lens.cost_of(each) / lens.cost)
    if "controls" not in trained.notes and trained.trial.norm == "batch":
        trained.notes["controls"] = lens.controls()
    return {member: lens.measurement(member) for member in trained.pack.alive}


@dataclass(frozen=True)
class _Shown:
    """The images of a test set that are attacked.

    Attributes:
        images: [N, C, H, W], as the test set has them.
        labels: int64 [N].
        samples: by which number of each image its random numbers are drawn, int64 [N].
        correct: which of them each member knows as they are, float64 [M, N].
    """

    images: Tensor
    labels: Tensor
    samples: Tensor
    correct: Tensor


class _Lens:
    """The lens over one pack: the images that are attacked, and what has been found."""

    def __init__(self, trained: Trained) -> None:
        self._trained, self._pack, trial = trained, trained.pack, trained.trial
        self._corrupted = CorruptedTestSet(trial.dataset, trained.data) if "corruptions" in trial.suites else None
        families = self._corrupted.families if self._corrupted else ()
        self._second = _second_test_set(trial, trained.data)
        self.perturbations = perturbations(
            trial.suites, trial.dataset, trained.data.shape, families, self._second is not None
        )
        self.cost = sum(map(self.cost_of, self.perturbations))

    def cost_of(self, of: Perturbation) -> float:
        """Return what one perturbation costs a member, in samples trained on."""
        trial, data = self._trained.trial, self._trained.data
        training = trial.epochs * len(data.train) * (of.suite == "transfer")
        return training + of.passes * images_of(of, trial.attack_samples or len(data.test))

    @cached_property
    def _test(self) -> _Shown:
        """What is attacked of the test set."""
        test = self._trained.data.test
        samples = attacked_samples(self._trained.trial, test)
        at = samples.to(test.labels.device)
        labels = test.labels[at]
        correct = (self._trained.logits.test[:, at].argmax(dim=2) == labels).double()
        return _Shown(test.images[at], labels, samples, correct)

    @cached_property
    def _again(self) -> _Shown:
        """What is attacked of the second test set, whose images are numbered on from the first one's."""
        assert self._second is not None
        samples = drawn_by_class(self._second.labels, self._trained.trial.attack_samples)
        at = samples.to(self._second.labels.device)
        images, labels = self._second.images[at], self._second.labels[at]
        correct = (predict(self._pack, images).argmax(dim=2) == labels).double()
        return _Shown(images, labels, len(self._trained.data.test) + samples, correct)

    def rows(self, of: Perturbation) -> list[Row]:
        """Return each member's row of `robustness` on one perturbation."""
        began = time.perf_counter()
        shown = self._again if of.split == CIFAR10_1 else self._test
        count = min(CHECKED, len(shown.labels)) if of.suite == "checks" else len(shown.labels)
        self._pack.train(False)
        space = InStandardizedSpace(self._pack) if of.space == "standardized" else self._pack
        sources = self._sources(of)
        perturb = self._corrupt if of.suite == "corruptions" else _perturb
        found = join([perturb(space, of, batch, sources) for batch in self._batches(space, shown, count)])
        seconds = (time.perf_counter() - began) / len(self._pack)
        stated = {
            "suite": of.suite,
            "perturbation": of.name,
            "norm": of.norm or None,
            "space": of.space,
            "epsilon": None if of.severity else of.epsilon,
            "step": of.step or None,
            "steps": of.steps,
            "restarts": of.restarts,
            "loss": of.loss or None,
            "clip_low": of.bounds[0] if of.bounds else None,
            "clip_high": of.bounds[1] if of.bounds else None,
            "severity": of.severity or None,
            "source": self._trained.trial.source if of.suite == "transfer" else None,
            "split": self._corrupted.split if self._corrupted and of.severity else of.split,
            "n": count,
            "seconds": seconds,
        }
        clean = shown.correct[:, :count].mean(dim=1).tolist()
        return [{**stated, **self._result(found, member, of, clean[member])} for member in range(len(self._pack))]

    def _sources(self, of: Perturbation) -> Sequence[Pack]:
        """Return the networks that are attacked in place of the members: one for each, one for all, or none."""
        data, members = self._trained.data, self._trained.members
        if of.suite == "transfer":
            return [InStandardizedSpace(trained_source(member, data, self._pack)) for member in members]
        return [linear_source(data.train, data.classes, self._pack)] if of.name == "transfer" else []

    def _corrupt(self, pack: Pack, of: Perturbation, batch: "_Batch", _: Sequence[Pack]) -> Outcome:
        """Return what each member makes of a batch under a corruption, which is the same for all members."""
        assert self._corrupted is not None
        corrupted = self._corrupted.images(of.name, of.severity, batch.draws.samples)
        return judge(pack, batch.images, to_float(corrupted, pack.dtype), batch.labels)

    def _result(self, found: Outcome, member: int, of: Perturbation, clean_acc: float) -> Row:
        """Return what one perturbation came to; of a member that could not be attacked, the reason."""
        if member in found.failed:
            return {"error": found.failed[member]}
        distance = found.l2 if of.norm == "l2" else found.linf
        return {
            "acc": (found.rank[member] == 0).double().mean().item(),
            "clean_acc": clean_acc,
            "top5": (found.rank[member] < 5).double().mean().item(),
            "loss_mean": found.loss[member].mean().item(),
            "flat": None if found.flat is None else found.flat[member].double().mean().item(),
            "moved": int(found.moved[member].sum()) if of.norm == "linf" else None,
            "max_distance": distance[member].max().item(),
        }

    def _batches(self, pack: Pack, shown: _Shown, count: int) -> Iterator["_Batch"]:
        """Yield the first images in batches, in the space of a pack."""
        seeds_of = [member.stream_seed for member in self._trained.members]
        at_once = images_at_once(shown.images, PREDICT_BATCH)
        for start in range(0, count, at_once):
            part = slice(start, min(start + at_once, count))
            images = to_float(shown.images[part], self._pack.dtype)
            if isinstance(pack, InStandardizedSpace):
                images = pack.from_pixels(images)
            draws = Draws(seeds_of, shown.samples[part])
            yield _Batch(images, shown.labels[part], draws, self._trained.data.enlarged)

    def controls(self) -> list[Row]:
        """Return each member's rows with batch norm's statistics of the batch, and with those estimated anew."""
        shown = self._test
        # In batches of even size, for of a single image a batch norm of features would leave nothing.
        count = -(-len(shown.labels) // self._trained.trial.batch_size)
        of_batches = [
            self._correct_with([images] * len(self._pack), images, labels)
            for images, labels in zip(*(of.tensor_split(count) for of in (shown.images, shown.labels)), strict=True)
        ]
        own = [each.pool[each.rows[each.training_samples[:INITIAL_SAMPLES]]] for each in self._trained.corrupted]
        by_name = {"batch_statistics": torch.cat(of_batches, dim=1)}
        if all(map(len, own)):
            by_name["new_statistics"] = self._correct_with(own, shown.images, shown.labels)
        stated = {"suite": "controls", "split": "test", "n": len(shown.labels)}
        means = {name: correct.mean(dim=1).tolist() for name, correct in by_name.items()}
        return [
            {**stated, "position": member, "perturbation": name, "acc": acc, "clean_acc": clean}
            for name in means
            for member, (acc, clean) in enumerate(zip(means[name], shown.correct.mean(dim=1).tolist(), strict=True))
        ]

    @torch.no_grad()
    def _correct_with(self, statistics_of: Sequence[Tensor], images: Tensor, labels: Tensor) -> Tensor:
        """Return which images each member knows, [M, N], with its batch norms' statistics over images of its own."""
        with ExitStack() as stack:
            for network, own in zip(self._pack.networks, statistics_of, strict=True):
                stack.enter_context(running_statistics_of(network, to_float(own, self._pack.dtype)))
            batches = image_batches(images, None, self._pack)
            self._pack.train(False)
            logits = torch.cat([self._pack.forward(batch)[0] for batch in batches], dim=1)
        return (logits.argmax(dim=2) == labels).double()

    def measurement(self, member: int) -> Measurement:
        """Return the rows of a member, and its columns of `members`."""
        notes = self._trained.notes
        rows = [cast(Row, notes[each.key][member]) for each in self.perturbations]
        filled = {each.fills: row.get("acc") for each, row in zip(self.perturbations, rows, strict=True) if each.fills}
        controls = [
            {name: value for name, value in row.items() if name != "position"}
            for row in notes.get("controls", [])
            if row["position"] == member
        ]
        errors = [
            1 - cast(float, row["acc"])
            for each, row in zip(self.perturbations, rows, strict=True)
            if each.severity and "acc" in row
        ]
        of_network = {
            "corruption_error": sum(errors) / len(errors) if errors else None,
            "output_bits": output_bits(logits) if len(logits := self._trained.logits.train[member]) else None,
            "weight_norm": weight_norm(self._pack.networks[member]),
        }
        return Measurement(members={**filled, **of_network}, tables={"robustness": [*rows, *controls]})


def _second_test_set(trial: Trial, data: Dataset) -> Split | None:
    """Return the second test set of the dataset, where a suite looks at it and it can be had."""
    if "paper2019" not in trial.suites or not has_second_test_set(trial.dataset):
        return None
    return cifar10_1.read(data)


@dataclass(frozen=True)
class _Batch:
    """Some of the images that are attacked, in the space of the attack, and where their random numbers come from."""

    images: Tensor
    labels: Tensor
    draws: Draws
    enlarged: int


def _perturb(pack: Pack, of: Perturbation, batch: _Batch, sources: Sequence[Pack] = ()) -> Outcome:
    """Return what each member makes of a batch under a perturbation, or under that of its source or of all's."""
    if of.name == "clean":
        return judge(pack, batch.images, batch.images, batch.labels)
    if of.name in ("noise", "uniform"):
        perturbed = _noisy(pack, of, batch)
        return judge(pack, batch.images, perturbed, batch.labels, of.epsilon if of.norm else torch.inf)
    if sources:
        draws = replace(batch.draws, seeds=[0])
        found = [attack(source, batch.images, batch.labels, _descent(of), draws) for source in sources]
        perturbed = torch.cat([images for images, _ in found]) if len(found) > 1 else found[0][0][0]
        judged = judge(pack, batch.images, perturbed, batch.labels, of.epsilon)
        failed = {at: f"its source: {each.failed[0]}" for at, (_, each) in enumerate(found) if each.failed}
        return replace(judged, failed={**judged.failed, **failed})
    return attack(pack, batch.images, batch.labels, _descent(of), batch.draws)[1]


def _noisy(pack: Pack, of: Perturbation, batch: _Batch) -> Tensor:
    """Return the images [M, B, C, H, W] with noise; that of enlarged images is enlarged as they are."""
    images = batch.images.expand(len(pack), *batch.images.shape)
    if of.name == "uniform":
        ball = BALLS["linf"](images, of.epsilon, of.bounds, False)
        at = torch.arange(images.shape[1], device=images.device).expand(images.shape[:2])
        return ball.start(batch.draws, 0, at)
    channels, height, width = images.shape[2:]
    drawn = batch.draws.normal((channels, height // batch.enlarged, width // batch.enlarged), "noise")
    noise = enlarge(drawn, batch.enlarged).to(images.device, images.dtype)
    noisy = images + of.epsilon * noise
    return noisy if of.bounds is None else noisy.clamp(*of.bounds)


def _descent(of: Perturbation) -> Descent:
    """Return the attack of a perturbation."""
    norm = cast(Any, of.norm)
    if of.name == "fgsm":
        return descent.fgsm(of.epsilon, of.bounds, verdict="last" if of.suite == "paper2019" else "any")
    if of.name == "bim":
        return descent.bim(of.epsilon, of.step, of.steps, of.bounds)
    if of.suite == "paper2019":
        return descent.advertorch(norm, of.epsilon, of.step, of.steps, of.bounds)
    return descent.pgd(norm, of.epsilon, of.steps, of.restarts, of.bounds, cast(Any, of.loss))


class InStandardizedSpace(Pack):
    """A pack whose members take images as their first layer would standardize them.

    It turns these back into pixels, which that layer standardizes again, so that nothing in the networks changes.
    """

    def __init__(self, pack: Pack) -> None:
        super().__init__(pack.networks)
        self.parameters, self.diverged, self._pack, self._network = pack.parameters, pack.diverged, pack, pack._network
        layers = [layer for layer in pack.networks[0].modules() if isinstance(layer, Standardize)]
        # Without such a layer, as on the spheres, the two spaces are one.
        ones = torch.ones(1, dtype=pack.dtype, device=pack.device)
        mean, spread = (layers[0].mean, layers[0].spread) if layers else (0 * ones, ones)
        self._mean, self._spread = (values.detach().clone()[:, None, None] for values in (mean, spread))

    @property
    def joint_network(self) -> nn.Module | None:
        """See `Pack.joint_network`."""
        return self._pack.joint_network

    def from_pixels(self, images: Tensor) -> Tensor:
        """Return images in [0, 1] as standardized ones."""
        return (images - self._mean) / self._spread

    def forward(self, images: Tensor, regularizer: str = "none") -> tuple[Tensor, Tensor]:
        """See `Pack.forward`."""
        return self._pack.forward(images * self._spread + self._mean, regularizer)

    def train(self, mode: bool = True) -> None:
        """See `Pack.train`."""
        self._pack.train(mode)


def output_bits(logits: Tensor) -> float:
    """Return the entropy of a network's outputs over D', in bits: how much of an image they still tell (Figure 3).

    Each probability is rounded to `QUANTIZED_BITS` bits, and the outputs that are then equal are counted.

    Args:
        logits: [N, classes].
    """
    levels = 2**QUANTIZED_BITS - 1
    quantized = (logits.double().softmax(dim=1) * levels).round().to(torch.uint8)
    counts = quantized.unique(dim=0, return_counts=True)[1].double()
    shares = counts / counts.sum()
    return float(-(shares * shares.log2()).sum()) + 0.0  # of a single output it is 0, and not minus 0


def weight_norm(network: nn.Module) -> float:
    """Return the l2 norm of all weights of the network's layers, without biases and the scales of norms."""
    weights: Sequence[Tensor] = [parameter for parameter in network.parameters() if parameter.ndim >= 2]
    return float(torch.stack([weight.detach().double().square().sum() for weight in weights]).sum().sqrt())
