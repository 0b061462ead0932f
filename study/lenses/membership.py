"""What the models on halves of one D' give away: attacks with one another as shadows, and what they memorized."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from PIL import Image
from torch import Tensor, nn

from study.data.corruption import Corrupted
from study.data.dataset import Dataset, Split
from study.errors import BadInputError
from study.lenses import membership
from study.lenses.gamma_sigma import overall, ratios
from study.mia.audit import MAIN_ATTACK, audit
from study.mia.counterfactual import counterfactual_memorization
from study.mia.roc import AttackMetrics, attack_metrics
from study.record.rows import Records, Row
from study.record.schema import conform_to_schema
from study.training.loop import Member
from study.trial import Trial

SHOWN = 12
"""How many of the images that were memorized most are kept."""


def infer(samples: pa.Table, models: int) -> list[Row]:
    """Every attack on every model, as rows of `attacks` whose `member` is the model's position.

    Args:
        samples: rows of `samples` of so many models, one after the other, over the same D'.
        models: how many.

    Returns:
        No rows where too few models are left to attack one with the others.
    """
    is_member = _by_model(samples, "is_member", models)
    groups = np.asarray(samples["group"].slice(0, is_member.shape[1]).to_pylist(), dtype=str)
    try:
        return audit(_queries(samples, models), is_member, groups)
    except BadInputError:
        return []


def headline(rows: list[Row], model: int) -> Row:
    """The columns of `members` that tell how the main attack did on one model, over all samples."""
    (row,) = (row for row in rows if (row["member"], row["attack"], row["group"]) == (model, MAIN_ATTACK, "all"))
    return {"mia_attack": MAIN_ATTACK, "mia_auc": row["auc"], "mia_tpr_at_1e3fpr": row["tpr_at_1e3fpr"]}


def most_memorized(samples: pa.Table, models: int, corrupted: Corrupted) -> list[Row]:
    """The images whose label the models trained on them know and the others don't, as rows of `images`.

    Args:
        samples: see `infer`.
        models: see `infer`.
        corrupted: their D'.
    """
    correct, is_member = (_by_model(samples, name, models) for name in ("correct", "is_member"))
    memorized = counterfactual_memorization(correct, is_member)
    largest = memorized.samples[np.argsort(-memorized.values, kind="stable")[:SHOWN]]
    described = samples.slice(0, correct.shape[1]).select(["sample", "group", "label", "original_label"]).to_pylist()
    return [
        {
            **described[sample],
            "in_acc": float(correct[is_member[:, sample], sample].mean()),
            "out_acc": float(correct[~is_member[:, sample], sample].mean()),
            "image": _png(corrupted.pool[corrupted.rows[sample]]),
        }
        for sample in largest.tolist()
    ]


def _queries(samples: pa.Table, models: int) -> Any:
    """The scores [Q, N, S] of those queries that were made."""
    asked = [name for name in ("score", "mirror_score") if not samples[name].null_count]
    return np.stack([_by_model(samples, name, models) for name in asked])


def _by_model(samples: pa.Table, column: str, models: int) -> Any:
    return samples[column].to_numpy().reshape(models, -1)


def _png(image: Tensor) -> bytes:
    """An image uint8 [C, H, W] as the bytes of a PNG file."""
    pixels = image.permute(1, 2, 0).cpu().numpy()
    into = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(into, format="PNG")
    return into.getvalue()


def score(logits: Tensor, labels: Tensor) -> Tensor:
    """The membership score phi = z_y - logsumexp of the other logits (Carlini et al. 2022, in logit form).

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
    """The attack that needs no shadow models: one threshold on phi for everybody.

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


def infer_membership(trial: Trial, members: Sequence[Member], records: Records) -> None:
    """Attack the models of each seed with one another as shadows, and find what they memorized most.

    Models that diverged are left out. Where too few are left, what a single threshold gives stands.
    """
    for seed in trial.seed:
        rows = [row for row in records.members if row["seed"] == seed and row["status"] == "ok"]
        if not rows:
            continue
        numbers = [row["member"] for row in rows]
        samples = records.samples.filter(pc.is_in(records.samples["member"], pa.array(numbers, pa.int32())))
        attacks = membership.infer(samples, len(rows))
        records.attacks += [{**row, "trial": trial.id, "member": numbers[row["member"]]} for row in attacks]
        for model, row in enumerate(rows):
            row |= membership.headline(attacks, model) if attacks else {}
        corrupted = next(each.corrupted for each in members if (each.trial.id, each.seed) == (trial.id, seed))
        images = membership.most_memorized(samples, len(rows), corrupted)
        records.images += [{"trial": trial.id, "seed": seed, **row} for row in images]


@dataclass(frozen=True)
class Measured:
    """What a trained member says, in eval mode.

    Attributes:
        logits: [N, classes], of D'.
        test_logits: [T, classes], of the test set.
        val_logits: [V, classes], of what was set aside.
        mirror_logits: [N, classes], of the mirror images of D', where they are asked for.
        grad_norms: float64 [N], of D', where they are asked for.
    """

    logits: Tensor
    test_logits: Tensor
    val_logits: Tensor
    mirror_logits: Tensor | None
    grad_norms: Tensor | None


def privacy(network: nn.Module, measured: Measured, corrupted: Corrupted, data: Dataset) -> Row:
    """What the trained member gives away, and the ratio that the paper holds to be the cause."""
    own = score(measured.logits, corrupted.labels)[corrupted.is_member]

    def attacked(logits: Tensor, unseen: Split) -> AttackMetrics:
        return global_threshold(own, score(logits, unseen.labels))

    attack = attacked(measured.test_logits, data.test)
    validation = data.validation
    return {
        "mia_attack": "global_threshold",
        "mia_auc": attack.auc,
        "mia_tpr_at_1e3fpr": attack.tpr_at_1e3fpr,
        "val_mia_auc": attacked(measured.val_logits, validation).auc if len(validation) else None,
        "gamma_over_sigma": overall(ratios([network])[0]),
    }


def each_sample(trial: Trial, measured: Measured, corrupted: Corrupted) -> tuple[pa.Table, Row]:
    """The `samples` of D', and the mean gradient norm of S_out and S_in where there are any."""
    out = corrupted.atypical.cpu()
    columns = {
        "sample": torch.arange(len(corrupted)),
        "label": corrupted.labels,
        "original_label": corrupted.original_labels,
        "is_member": corrupted.is_member,
        "score": score(measured.logits, corrupted.labels),
        "correct": measured.logits.argmax(dim=1) == corrupted.labels,
    }
    if measured.mirror_logits is not None:
        columns["mirror_score"] = score(measured.mirror_logits, corrupted.labels)
    means: Row = {}
    if measured.grad_norms is not None:
        columns["grad_norm"] = norm = measured.grad_norms.cpu()
        own = corrupted.is_member.cpu()
        means = {f"grad_norm_{group}": _mean(norm[mask & own]) for group, mask in (("out", out), ("in", ~out))}
    arrays = {name: pa.array(column.cpu().numpy()) for name, column in columns.items()}
    groups = pa.array([GROUPS[trial.corruption] if outside else "clean" for outside in out.tolist()])
    return conform_to_schema("samples", pa.table({**arrays, "group": groups})), means


GROUPS = {"none": "clean", "label": "corrupted", "ood": "ood", "natural": "natural"}
"""What S_out is called in `samples`, by corruption."""


def _mean(values: Tensor) -> float | None:
    return values.mean().item() if len(values) else None
