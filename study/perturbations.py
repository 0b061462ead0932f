"""The perturbations of each suite of robustness: what is done to the test images, and how strongly.

Nothing here imports torch, so that a sweep of them can be planned without it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from study.corruptions.names import COMPUTED, FAMILIES, LEAST_SIDE, SEVERITIES
from study.errors import BadInputError

Shape = tuple[int, int, int]
Bounds = tuple[float, float] | None
CHECKED = 256
"""How many of the attacked images the sanity checks look at."""
PIXELS: Bounds = (0.0, 1.0)
PGD_STEPS = 20
CIFAR10_1, CIFAR10_1_IMAGES = "cifar10.1", 2_000
"""The split of CIFAR-10's second test set, and how many images it has."""


@dataclass(frozen=True)
class Perturbation:
    """One thing that is done to test images, at one strength.

    Attributes:
        suite: `pixel`, `paper2019`, `transfer`, `corruptions`, or `checks`, which come with `pixel`.
        name: `clean` (nothing, for the top five), `noise` (Gaussian), `uniform` (a random point of the ball), `fgsm`,
            `bim`, `pgd`, or `transfer` (PGD against a linear network, shown to this one), or the family of a
            corruption.
        norm: `linf` or `l2`, in which an attack is bounded; none for noise and corruptions.
        space: `pixel` for images in [0, 1], `standardized` for what the network's first layer makes of them.
        epsilon: the radius of the ball around an image, or the standard deviation of noise; 0 for a corruption.
        step: the length of a step.
        steps: how many are taken.
        restarts: how many random starts; 0 starts from the image itself.
        loss: what an attack climbs, `ce` or `margin`.
        bounds: the least and the largest value that an image may have; None for none.
        fills: the column of `members` that has its accuracy; empty for none.
        severity: of a corruption, from 1 to 5; 0 for anything else.
        split: the images that it is done to: `test`, or another test set of the same classes.
    """

    suite: str
    name: str
    norm: Literal["", "linf", "l2"]
    space: Literal["pixel", "standardized"]
    epsilon: float
    step: float = 0.0
    steps: int = 0
    restarts: int = 0
    loss: Literal["", "ce", "margin"] = ""
    bounds: Bounds = None
    fills: str = ""
    severity: int = 0
    split: str = "test"

    @property
    def key(self) -> str:
        """A name of its own among the perturbations of a trial."""
        parts = (self.suite, self.name, self.norm, f"{self.epsilon:g}", self.steps, self.restarts, self.loss)
        split = () if self.split == "test" else (self.split,)
        return "/".join(map(str, (*parts, self.bounds, self.severity, *split)))

    @property
    def passes(self) -> float:
        """What it costs for an image, in training steps: a step of an attack is two thirds of one, a look a third."""
        return self.steps * max(1, self.restarts) * 2 / 3 + 1 / 3


def perturbations(
    suites: Sequence[str],
    dataset: str,
    shape: Shape,
    families: Sequence[str] = COMPUTED,
    second: bool = False,
) -> list[Perturbation]:
    """Return what is done to the test images of a dataset, in order; a column of `members` is filled by the first.

    Args:
        suites: their names.
        dataset: the setting.
        shape: channels, height and width of an image.
        families: the corruptions that can be had.
        second: whether the dataset's second test set can be had, to which `paper2019` does the same.

    Raises:
        BadInputError: the dataset can't have a suite.
    """
    found: list[Perturbation] = []
    for suite in suites:
        filled = {each.fills for each in found}
        if suite == "corruptions":
            of_suite = _corruptions(dataset, shape, families)
        else:
            of_suite = {"pixel": _pixel, "paper2019": _paper2019, "transfer": _transfer}[suite](dataset, shape)
        found += [replace(each, fills="") if each.fills in filled else each for each in of_suite]
        if second and suite == "paper2019" and has_second_test_set(dataset):
            found += [replace(each, fills="", split=CIFAR10_1) for each in of_suite]
    return found


def has_second_test_set(dataset: str) -> bool:
    """Return whether there is a second test set of a dataset, which a user may have."""
    return dataset == "cifar10"


def _pixel(dataset: str, shape: Shape) -> list[Perturbation]:
    """Return the attacks of today: on pixels in [0, 1], from random starts, of which any iterate counts."""
    if dataset == "spheres":
        raise BadInputError("robustness=pixel attacks images in [0, 1], and the points of spheres are none.")
    epsilon = usual_epsilon(shape)
    noise = [Perturbation("pixel", "noise", "", "pixel", spread, bounds=PIXELS) for spread in (0.02, 0.05, 0.1, 0.2)]
    noise[2] = replace(noise[2], fills="noise_acc")
    attacks = [Perturbation("pixel", "fgsm", "linf", "pixel", epsilon, epsilon, 1, 0, "ce", PIXELS)]
    for norm in ("linf", "l2"):
        for times in (0.5, 1.0, 2.0):
            fills = f"pgd_{norm}_acc" if times == 1 else ""
            attacks.append(replace(_pgd(norm, times * epsilon, shape), suite="pixel", fills=fills))
    checks = _checks(epsilon, shape)
    # A linear network is fitted to D, and of ImageNet there is none.
    return [*noise, *attacks, *(each for each in checks if each.name != "transfer" or dataset != "imagenet")]


def usual_epsilon(shape: Shape) -> float:
    """Return the radius in the linf norm at which images are usually attacked: 2/255 in colour, 0.1 for digits."""
    return 0.1 if shape[0] == 1 else 2 / 255


def _pgd(norm: str, epsilon: float, shape: Shape, steps: int = PGD_STEPS, restarts: int = 1) -> Perturbation:
    """Return PGD on pixels; its ball in l2 has the radius epsilon times the root of the dimension, and holds linf's."""
    radius = epsilon if norm == "linf" else epsilon * math.sqrt(math.prod(shape))
    kind: Literal["linf", "l2"] = "linf" if norm == "linf" else "l2"
    return Perturbation("checks", "pgd", kind, "pixel", radius, 2.5 * radius / steps, steps, restarts, "ce", PIXELS)


def _checks(epsilon: float, shape: Shape) -> list[Perturbation]:
    """Return what tells whether the attacks themselves are sound (Carlini et al., 2019), on `CHECKED` images."""
    strengths = [radius for radius in (2 * epsilon, 4 * epsilon, 8 * epsilon, 32 * epsilon) if radius < 1]
    return [
        *(_pgd("linf", radius, shape) for radius in (*strengths, 1.0)),
        *(_pgd("linf", epsilon, shape, steps) for steps in (5, 10, 20, 40, 100)),
        _pgd("linf", epsilon, shape, restarts=5),
        replace(_pgd("linf", epsilon, shape), loss="margin"),
        _pgd("l2", epsilon, shape),
        Perturbation("checks", "fgsm", "linf", "pixel", epsilon, epsilon, 1, 0, "ce", PIXELS),
        Perturbation("checks", "uniform", "linf", "pixel", epsilon, bounds=PIXELS),
        replace(_pgd("linf", epsilon, shape), name="transfer"),
    ]


def _paper2019(dataset: str, shape: Shape) -> list[Perturbation]:
    """Return what Galloway et al. (2019) did, in the space of standardized images; see ROBUSTNESS in the docs."""
    if dataset == "spheres":
        return [_noise2019(math.sqrt(0.005), "noise_acc")]
    clean = Perturbation("paper2019", "clean", "", "standardized", 0.0)
    if shape[0] == 1:
        return [
            clean,
            _noise2019(1.0, "noise_acc"),
            *(_fgsm2019(epsilon) for epsilon in (0.05, 0.1)),
            Perturbation("paper2019", "bim", "linf", "standardized", 0.1, 0.001, 100, 0, "ce", fills="pgd_linf_acc"),
        ]
    clip = (-1.0, 1.0) if dataset == "svhn" else (-2.0, 2.0)
    epsilon = _epsilon2019(dataset, shape)
    linf = Perturbation(
        "paper2019", "pgd", "linf", "standardized", epsilon, epsilon / 10, 20, 0, "ce", clip, "pgd_linf_acc"
    )
    radius = epsilon * math.sqrt(math.prod(shape))
    l2 = replace(linf, norm="l2", epsilon=radius, step=radius / 10, fills="pgd_l2_acc")
    # Without the clip as well: of the pixels many lie beyond it, so that clipping alone moves them far.
    free = [replace(attack, bounds=None, fills="") for attack in (linf, l2)]
    noise = [_noise2019(0.25, "noise_acc"), _noise2019(0.5)]
    return [clean, *noise, *(_fgsm2019(epsilon) for epsilon in (0.05, 0.1)), linf, l2, *free]


def _noise2019(spread: float, fills: str = "") -> Perturbation:
    return Perturbation("paper2019", "noise", "", "standardized", spread, fills=fills)


def _fgsm2019(epsilon: float) -> Perturbation:
    return Perturbation("paper2019", "fgsm", "linf", "standardized", epsilon, epsilon, 1, 0, "ce")


def _transfer(dataset: str, shape: Shape) -> list[Perturbation]:
    """Return the attack on another network whose images this one is shown: BIM of 10 steps of half of epsilon.

    The paper has steps of 0.005 on ImageNet (A.4), and doesn't state its epsilon nor a clip: it is read as that of the
    white-box attacks, 0.01, without a clip, as its BIM on MNIST has none.
    """
    if dataset == "spheres":
        raise BadInputError("robustness=transfer attacks images, and the points of spheres are none.")
    epsilon = _epsilon2019(dataset, shape)
    return [Perturbation("transfer", "bim", "linf", "standardized", epsilon, epsilon / 2, 10, 0, "ce")]


def _epsilon2019(dataset: str, shape: Shape) -> float:
    """Return the radius of the paper's attacks in the linf norm."""
    if shape[0] == 1:
        return 0.1
    return 0.01 if dataset == "imagenet" else 0.03


def _corruptions(dataset: str, shape: Shape, families: Sequence[str]) -> list[Perturbation]:
    """Return each family of corruptions at each severity."""
    if dataset == "spheres":
        raise BadInputError("robustness=corruptions changes images, and the points of spheres are none.")
    channels, *sides = shape
    if channels not in (1, 3) or min(sides) < LEAST_SIDE:
        raise BadInputError(
            f"robustness=corruptions needs images of one or three channels and of at least {LEAST_SIDE} pixels a side, "
            f"and those of {dataset} have {channels} and {'x'.join(map(str, sides))}."
        )
    return [
        Perturbation("corruptions", family, "", "pixel", 0.0, severity=severity)
        for family in families
        for severity in SEVERITIES
    ]


def passes(suites: Sequence[str], dataset: str, shape: Shape, images: int) -> float:
    """Return what the suites cost a member over that many test images, in samples trained on, at most."""
    return sum(
        each.passes * images_of(each, images)
        for each in perturbations(suites, dataset, shape, FAMILIES, has_second_test_set(dataset))
    )


def images_of(of: Perturbation, images: int) -> int:
    """Return to how many images something is done, at most, if that many of the test set are attacked."""
    if of.suite == "checks":
        return min(images, CHECKED)
    return min(images, CIFAR10_1_IMAGES) if of.split == CIFAR10_1 else images
