"""The lens on membership: whether an attacker can tell who was in the training set (section 4.3 of the paper).

One threshold on the membership score needs no other models, so it is measured of every member. Where a trial trains
many models on halves of one D', each is attacked with the others as its shadows as well: see `audit_with_shadows`.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from PIL import Image
from torch import Tensor

from study.data.corruption import Corrupted
from study.errors import BadInputError
from study.lenses.trained import Trained
from study.mia.audit import MAIN_ATTACK, audit
from study.mia.checks import tell_apart
from study.mia.counterfactual import counterfactual_memorization
from study.mia.roc import AttackMetrics, attack_metrics
from study.record.rows import Measurement, Measurements, Records, Row
from study.training.loop import Member
from study.trial import Trial

IMAGES = 12
"""How many of the images that were memorized most are recorded for each seed."""


def wanted(trial: Trial) -> bool:  # noqa: ARG001
    """Return True: one threshold on the score can be put to every network."""
    return True


def at_end(trained: Trained) -> Measurements:
    """Measure the attack with one threshold on each member, and the scores of its samples where they are asked for."""
    logits, trial = trained.logits, trained.trial
    mirror_logits = trained.mirror_logits if trial.queries == "mirror" else None
    measurements = {}
    for member in trained.pack.alive:
        corrupted = trained.members[member].corrupted
        scores = score(logits.train[member], corrupted.labels)
        samples = {}
        if trial.samples != "none":
            correct = logits.train[member].argmax(dim=1) == corrupted.labels
            samples = {"score": scores, "correct": correct}
            if mirror_logits is not None:
                samples["mirror_score"] = score(mirror_logits[member], corrupted.labels)
        columns = _one_threshold(scores[corrupted.is_member], trained, member)
        measurements[member] = Measurement(members=columns, samples=samples)
    return measurements


def _one_threshold(seen: Tensor, trained: Trained, member: int) -> Row:
    """Return the columns on the attack with one threshold, from a member's scores of its training samples."""
    logits, test, validation = trained.logits, trained.data.test, trained.data.validation
    if not len(seen):
        return {}
    attack = global_threshold(seen, score(logits.test[member], test.labels))
    val_auc = None
    if len(validation):
        val_auc = global_threshold(seen, score(logits.validation[member], validation.labels)).auc
    return {
        "mia_attack": "global_threshold",
        "mia_auc": attack.auc,
        "mia_tpr_at_1e3fpr": attack.tpr_at_1e3fpr,
        "val_mia_auc": val_auc,
    }


def score(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the membership score phi = z_y - logsumexp of the other logits (Carlini et al. 2022, in logit form).

    It is computed from logits and in float64: by way of float32 probabilities, a margin of 20 is already lost.

    Args:
        logits: [N, classes], any floating dtype, finite, from a network in eval mode.
        labels: int64 [N], as assigned.

    Returns:
        float64 [N]; larger means more likely a member.

    Raises:
        BadInputError: a logit isn't finite, or there is but one class.
    """
    if logits.shape[1] < 2:
        raise BadInputError("a membership score needs at least two classes.")
    if not torch.isfinite(logits).all():
        raise BadInputError("membership can't be scored from logits that are not finite.")
    wide = logits.double()
    own = wide.gather(1, labels[:, None])
    others = wide.scatter(1, labels[:, None], float("-inf"))
    return own[:, 0] - others.logsumexp(dim=1)


def global_threshold(members: Tensor, non_members: Tensor) -> AttackMetrics:
    """Return the metrics of the attack that needs no shadow models: one threshold on phi for all samples.

    Args:
        members: scores of samples that the network was trained on.
        non_members: scores of samples that it never saw.

    Raises:
        BadInputError: a side is empty or holds a score that isn't finite.
    """
    if not len(members) or not len(non_members):
        raise BadInputError("membership needs members and non-members.")
    scores = torch.cat([members, non_members]).double().cpu().numpy()
    return attack_metrics(scores, np.arange(len(scores)) < len(members))


def audit_with_shadows(trial: Trial, members: Sequence[Member], records: Records) -> None:
    """Attack the models of each seed with one another as shadows, and find the images that they memorized most.

    The rows of `attacks` and `images` are added to the records, and the columns of `members` on membership are those of
    the main attack. Models that diverged are left out, and so are dead ones, which have the same score on every sample;
    what one threshold gives stands for these, and for all models where too few are left.

    Args:
        trial: one with `protocol=splits`.
        members: all members of its packs, each with its D'.
        records: those of the trial, with `samples`.
    """
    for seed in trial.seed:
        rows = [row for row in records.members if row["seed"] == seed and row["status"] == "ok"]
        if not rows:
            continue
        samples, rows = _of_live_models(records.tables["samples"], rows)
        if not rows:
            continue
        numbers = [row["member"] for row in rows]
        attacks = attack_all(samples, len(rows))
        records.tables["attacks"] += [{**row, "trial": trial.id, "member": numbers[row["member"]]} for row in attacks]
        for model, row in enumerate(rows):
            row |= main_attack(attacks, model) if attacks else {}
        corrupted = next(member.corrupted for member in members if (member.trial.id, member.seed) == (trial.id, seed))
        images = most_memorized(samples, len(rows), corrupted)
        records.tables["images"] += [{"trial": trial.id, "seed": seed, **row} for row in images]


def _of_live_models(samples: pa.Table, rows: list[Row]) -> tuple[pa.Table, list[Row]]:
    """Return the samples and the rows of those of the models that tell samples apart."""
    numbers = [row["member"] for row in rows]
    own = samples.filter(pc.is_in(samples["member"], pa.array(numbers, pa.int32())))
    alive = tell_apart(_queries(own, len(rows)))
    live = [row for row, is_alive in zip(rows, alive, strict=True) if is_alive]
    return own.filter(np.repeat(alive, len(own) // len(rows))), live


def attack_all(samples: pa.Table, models: int) -> list[Row]:
    """Run every attack on every model, and return rows of `attacks` whose `member` is the model's position.

    Args:
        samples: rows of `samples`, one model after the other, all over the same D'.
        models: the number of models.

    Returns:
        No rows where too few models are left to attack one with the others.
    """
    is_member = _by_model(samples, "is_member", models)
    groups = np.asarray(samples["group"].slice(0, is_member.shape[1]).to_pylist(), dtype=str)
    try:
        return audit(_queries(samples, models), is_member, groups)
    except BadInputError:
        return []


def main_attack(rows: list[Row], model: int) -> Row:
    """Return the columns of `members` on the main attack on one model, over all samples."""
    (row,) = (row for row in rows if (row["member"], row["attack"], row["group"]) == (model, MAIN_ATTACK, "all"))
    return {"mia_attack": MAIN_ATTACK, "mia_auc": row["auc"], "mia_tpr_at_1e3fpr": row["tpr_at_1e3fpr"]}


def most_memorized(samples: pa.Table, models: int, corrupted: Corrupted) -> list[Row]:
    """Return the images whose label the models trained on them know and the others don't, as rows of `images`.

    Args:
        samples: see `attack_all`.
        models: see `attack_all`.
        corrupted: their D'.
    """
    correct, is_member = (_by_model(samples, name, models) for name in ("correct", "is_member"))
    memorized = counterfactual_memorization(correct, is_member)
    largest = memorized.samples[np.argsort(-memorized.values, kind="stable")[:IMAGES]]
    points = corrupted.pool.is_floating_point()  # which are no images to be looked at
    described = samples.slice(0, correct.shape[1]).select(["sample", "group", "label", "original_label"]).to_pylist()
    return [
        {
            **described[sample],
            "in_acc": float(correct[is_member[:, sample], sample].mean()),
            "out_acc": float(correct[~is_member[:, sample], sample].mean()),
            "image": None if points else _png(corrupted.pool[corrupted.rows[sample]]),
        }
        for sample in largest.tolist()
    ]


def _queries(samples: pa.Table, models: int) -> Any:
    """Return the scores [Q, N, S] of those queries that were made."""
    asked = [name for name in ("score", "mirror_score") if not samples[name].null_count]
    return np.stack([_by_model(samples, name, models) for name in asked])


def _by_model(samples: pa.Table, column: str, models: int) -> Any:
    return samples[column].to_numpy().reshape(models, -1)


def _png(image: Tensor) -> bytes:
    """Return an image, uint8 [C, H, W], as the bytes of a PNG file."""
    pixels = image.permute(1, 2, 0).cpu().numpy()
    into = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(into, format="PNG")
    return into.getvalue()
