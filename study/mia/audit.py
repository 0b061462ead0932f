"""The privacy audit: all membership inference attacks, by name.

Every model is the target in turn and the others are its shadows, as many for a member as for a non-member
(`study.mia.shadows`): what the target says of a sample never enters the statistics that its own score is held against.
Throughout, `scores` is [N models, S samples] of the membership score phi = z_y - logsumexp(z_others), and `is_member`,
bool [N, S], says on which samples each model was trained. An attack turns them into float64 [N, S], where larger means
more likely a member.

- LiRA: Carlini et al. 2022, "Membership Inference Attacks From First Principles", Algorithm 1.
- RMIA: Zarifzadeh et al. 2024, "Low-Cost High-Power Membership Inference Attacks", Eq. 1 to 3 and appendix B.2.
- Counterfactual memorization: Feldman and Zhang 2020, "What Neural Networks Memorize and Why", Eq. 1.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.errors import unknown
from study.mia.checks import Attack, Floats, Mask, Scores, valid_scores
from study.mia.lira import lira_offline, lira_offline_two_sided, lira_online
from study.mia.rmia import rmia_offline, rmia_online
from study.mia.roc import metrics_by_group


def global_threshold(scores: Scores, is_member: Mask, shadows: Mask | None = None) -> Floats:  # noqa: ARG001
    """Return phi itself, one threshold for all samples: the attack that needs no shadows.

    Raises:
        BadInputError: the input is unusable.
    """
    return valid_scores(scores, is_member)[0]


ATTACKS: Mapping[str, Attack] = {
    "lira_online": lira_online,
    "lira_online/pooled": partial(lira_online, variance="pooled"),
    "lira_online/per_example": partial(lira_online, variance="per_example"),
    "lira_offline": lira_offline,
    "lira_offline/pooled": partial(lira_offline, variance="pooled"),
    "lira_offline/per_example": partial(lira_offline, variance="per_example"),
    "lira_offline_two_sided": lira_offline_two_sided,
    "lira_offline_two_sided/pooled": partial(lira_offline_two_sided, variance="pooled"),
    "lira_offline_two_sided/per_example": partial(lira_offline_two_sided, variance="per_example"),
    "rmia_online": rmia_online,
    "rmia_offline": rmia_offline,
    "global_threshold": global_threshold,
}
"""Every attack by the name it is shown under; without a suffix, a LiRA has shrunk variances."""
MAIN_ATTACK = "lira_online"
"""The attack that stands for all of them: in `members`, in the figures and in the claims."""
STEADY_ATTACK = "lira_offline"
"""The attack that stands beside it, for it depends less on how many shadows there are."""


def attack_scores(attack: str, scores: Scores, is_member: Mask, shadows: Mask | None = None) -> Floats:
    """Run an attack on membership scores, and return its own scores, float64 [N, S].

    Several queries of each sample, such as its mirror image, are aligned: the target's score for a query is held
    against its shadows' scores for the same query, and the attack's scores are averaged over queries, as in the public
    code of Carlini et al.

    Args:
        attack: a key of `ATTACKS`.
        scores: floating [N, S], or [Q, N, S] of Q queries, finite.
        is_member: bool [N, S].
        shadows: bool [N, S], whether a model may be a shadow for a sample; by default all may.

    Raises:
        BadInputError: the input is unusable, or the attack is unknown or needs more models.
    """
    if attack not in ATTACKS:
        raise unknown("attack", attack, ATTACKS)
    queries = scores if scores.ndim == 3 else scores[None]
    mean: Floats = np.mean([ATTACKS[attack](query, is_member, shadows=shadows) for query in queries], axis=0)
    return mean


def audit(
    scores: Scores, is_member: Mask, groups: NDArray[Any], attacks: Iterable[str] = tuple(ATTACKS)
) -> list[dict[str, Any]]:
    """Run every attack on every target, and return the rows of `attacks` but for their trial.

    Args:
        scores: floating [N, S], or [Q, N, S] of Q queries, the membership scores, finite.
        is_member: bool [N, S].
        groups: names [S], none of them `all`.
        attacks: keys of `ATTACKS`.

    Returns:
        For each attack, group and target a row of `member` (the target's index), `attack`, `group` and the metrics.

    Raises:
        BadInputError: the input is unusable, an attack is unknown or needs more models.
    """
    rows = []
    for attack in attacks:
        for group, by_target in metrics_by_group(attack_scores(attack, scores, is_member), is_member, groups).items():
            rows += [
                {"member": target, "attack": attack, "group": group, **asdict(metrics)}
                for target, metrics in enumerate(by_target)
            ]
    return rows
