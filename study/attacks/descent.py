"""Attacks that follow the gradient of a loss: FGSM, BIM, and PGD in the linf and in the l2 norm.

They differ in the settings of one loop, `Descent`. Of a pack all members are attacked at once, each with images of its
own. What an attack finds depends on neither the pack nor the batch, but for the rounding of the network's arithmetic.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from study.attacks.balls import BALLS
from study.attacks.draws import Draws
from study.attacks.gradients import Gradients, frozen, input_gradients
from study.attacks.outcome import FLAT, Outcome, for_each, outcome, ranks
from study.engine import Pack

ADVERTORCH_FLOOR = 1e-6
"""The least norm that advertorch divides a gradient by."""
CROWDED = 0.9
"""A batch is closed up once no member has more than this share of it left to attack."""


@dataclass(frozen=True)
class Descent:
    """What an attack does; epsilon, steps and bounds are in the space of the images that the network takes.

    Attributes:
        norm: in which the images stay within epsilon.
        epsilon: the radius of the ball around each image, from 0.
        step: the length of a step, in the same norm.
        steps: how many steps are taken from each start, from 1.
        bounds: the least and the largest value that an image may have; None is no bounds.
        loss: what is climbed, a key of `study.attacks.gradients.LOSSES`.
        verdict: `last` looks at the last iterate alone. `any` looks at the image as it is and at every iterate, and one
            that is misclassified is enough.
        random_start: whether to start from a random point of the ball instead of from the image.
        restarts: how many random starts an image must survive to count as robust, from 1.
        clip_first: apply the bounds before the ball, and once more at the very end, as advertorch does in l2. Before
            that the images may leave the bounds.
        floor: the least norm of the loss's gradient that an l2 step divides by. Where the norm is below it the step is
            shorter than `step`; with 0 it never is.
    """

    norm: Literal["linf", "l2"]
    epsilon: float
    step: float
    steps: int
    bounds: tuple[float, float] | None = None
    loss: Literal["ce", "margin"] = "ce"
    verdict: Literal["last", "any"] = "last"
    random_start: bool = False
    restarts: int = 1
    clip_first: bool = False
    floor: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1:
            raise ValueError("an attack takes one step from one start at least")
        if self.restarts > 1 and not self.random_start:
            raise ValueError("without a random start every restart would find the same")
        if self.clip_first and (self.norm == "linf" or self.verdict == "any"):
            raise ValueError("clip_first is for l2, where the last iterate alone is sure to be within the bounds")


def fgsm(
    epsilon: float,
    bounds: tuple[float, float] | None = None,
    norm: Literal["linf", "l2"] = "linf",
    verdict: Literal["last", "any"] = "last",
) -> Descent:
    """Return the fast gradient sign method, one step as long as epsilon; in l2 it is along the gradient itself."""
    return Descent(norm, epsilon, epsilon, 1, bounds, verdict=verdict)


def bim(epsilon: float, step: float, steps: int, bounds: tuple[float, float] | None = None) -> Descent:
    """Return the basic iterative method in linf: steps from the image itself, of which the last one counts."""
    return Descent("linf", epsilon, step, steps, bounds)


def pgd(
    norm: Literal["linf", "l2"],
    epsilon: float,
    steps: int = 20,
    restarts: int = 1,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    loss: Literal["ce", "margin"] = "ce",
) -> Descent:
    """Return projected gradient descent at its strongest: random starts, steps of 2.5 epsilon / steps, any iterate."""
    step = 2.5 * epsilon / steps
    return Descent(norm, epsilon, step, steps, bounds, loss, "any", random_start=True, restarts=restarts)


def advertorch(
    norm: Literal["linf", "l2"], epsilon: float, step: float, steps: int, bounds: tuple[float, float] | None = None
) -> Descent:
    """Return PGD as advertorch 0.2 does it without a random start, which is how the 2019 paper's numbers were found.

    Its order and its floor are kept, but where float32 would have lost the gradient's direction it is exact.
    """
    return Descent(norm, epsilon, step, steps, bounds, clip_first=norm == "l2", floor=ADVERTORCH_FLOOR)


@torch.no_grad()
def attack(
    pack: Pack, images: Tensor, labels: Tensor, descent: Descent, draws: Draws | None = None
) -> tuple[Tensor, Outcome]:
    """Attack every member of a pack with a batch of images, and leave all else as it was.

    Images, parameters, every `.grad` and `requires_grad`, and running statistics are left alone. A member with a
    gradient or a logit that is not finite is given up, and the others go on.

    Args:
        pack: the members, in eval mode.
        images: [B, C, H, W] or [M, B, C, H, W], in the pack's dtype and on its device; an expanded view will do.
        labels: int64 [B] or [M, B], on the same device.
        descent: the attack.
        draws: where random starts come from; needed for `random_start` alone.

    Returns:
        The images that count, [M, B, C, H, W], and what became of them. These are the first iterate that was looked at
        and misclassified, or the last one if there is none.

    Raises:
        BadInputError: a layer is in train mode, or the logits have no gradient in the images.
    """
    if not labels.numel():
        raise ValueError("there is no image to attack")
    climb = _Climb(pack, for_each(pack, images), labels.expand(len(pack), -1), descent)
    with frozen(pack):
        climb.run(draws)
    return climb.found, climb.outcome()


class _Climb:
    """The loop over starts and steps.

    The images that are attacked still are in the first W places of each member: `_at`, int64 [M, W], says which images
    they are. Members may have different numbers of them left, so `_going`, bool [M, W], says in which places one is.

    Attributes:
        found: the images that count as yet, [M, B, C, H, W].
    """

    def __init__(self, pack: Pack, images: Tensor, labels: Tensor, descent: Descent) -> None:
        self.found = images.clone()
        self._pack, self._images, self._labels, self._descent = pack, images, labels, descent
        self._members = torch.arange(len(pack), device=labels.device)[:, None]
        self._at = torch.arange(labels.shape[1], device=labels.device).expand(labels.shape)
        self._going = torch.ones_like(labels, dtype=torch.bool)
        self._current, self._own = images, labels
        self._ball = BALLS[descent.norm](images, descent.epsilon, descent.bounds, descent.clip_first)
        self._steps = torch.zeros_like(labels)
        self._flat: Tensor | None = None
        self._logits: Tensor | None = None
        self._failed: dict[int, str] = {}

    def run(self, draws: Draws | None) -> None:
        """Attack until all restarts are through, or no image is left."""
        if self._descent.random_start:
            self._gradients()
        for restart in range(self._descent.restarts):
            self._close_up()
            if self._descent.random_start:
                if draws is None:
                    raise ValueError("a random start needs draws")
                self._current = self._ball.start(draws, restart, self._at)
            for _ in range(self._descent.steps):
                if self._going.any():
                    self._step()
            if self._going.any():
                self._end()

    def outcome(self) -> Outcome:
        """Return what has become of the images."""
        assert self._logits is not None, "a step was taken"
        self._logits[list(self._failed)] = torch.nan
        return outcome(
            self._images,
            self.found,
            self._labels,
            self._logits,
            self._descent.epsilon,
            steps=self._steps,
            flat=self._flat,
            failed=self._failed,
        )

    def _step(self) -> None:
        gradients = self._gradients()
        self._steps[self._members, self._at] += self._going
        self._current = self._ball.move(self._current, gradients, self._descent.step, self._descent.floor)
        self._close_up()

    def _gradients(self) -> Gradients:
        """Return the gradients at the current images; where every iterate counts, those that fool leave."""
        gradients = input_gradients(self._pack, self._current, self._own, self._descent.loss)
        if self._logits is None:  # the images are as they were yet
            self._logits = torch.full_like(gradients.logits, torch.nan)
            if self._descent.loss == "ce":
                self._flat = gradients.norms * gradients.scale < FLAT
        self._give_up(gradients.norms, "a gradient is not finite")
        if self._descent.verdict == "any":
            fooled = ranks(gradients.logits, self._own) > 0
            self._record(self._going & fooled, gradients.logits)
            self._going = self._going & ~fooled
        return gradients

    def _end(self) -> None:
        """Look at the last iterates from one start, which count for now; those that fool leave."""
        self._current = self._ball.finish(self._current)
        logits, _ = self._pack.forward(self._current)
        self._give_up(logits.abs().amax(dim=2), "a logit is not finite")
        self._record(self._going, logits)
        self._going = self._going & (ranks(logits, self._own) == 0)

    def _record(self, where: Tensor, logits: Tensor) -> None:
        """Have the current images in some places, bool [M, W], be those that count."""
        assert self._logits is not None, "it was made with the first gradients"
        member, place = where.nonzero(as_tuple=True)
        image = self._at[member, place]
        self.found[member, image] = self._current[member, place]
        self._logits[member, image] = logits[member, place]

    def _give_up(self, numbers: Tensor, reason: str) -> None:
        """Leave out the members of which a number, [M, W], is not finite though an image is attacked there."""
        failing = (self._going & ~numbers.isfinite()).any(dim=1)
        for member in failing.nonzero().flatten().tolist():
            self._failed[member] = reason
        self._going = self._going & ~failing[:, None]

    def _close_up(self) -> None:
        """Let the images that have left make room, if there are enough of them."""
        width = int(self._going.sum(dim=1).max())
        if width > CROWDED * self._going.shape[1]:
            return
        # The order of those that stay is kept.
        places = (~self._going).int().argsort(dim=1, stable=True)[:, :width]
        self._ball.keep(self._members, places)
        self._at, self._going, self._current, self._own = (
            values[self._members, places] for values in (self._at, self._going, self._current, self._own)
        )
