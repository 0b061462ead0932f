"""Attacks on all members of a pack at once: images are perturbed so that the networks no longer know them."""

from study.attacks.descent import Descent, advertorch, attack, bim, fgsm, pgd
from study.attacks.draws import Draws
from study.attacks.outcome import Outcome, join, judge

__all__ = ["Descent", "Draws", "Outcome", "advertorch", "attack", "bim", "fgsm", "join", "judge", "pgd"]
