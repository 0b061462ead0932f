"""What the models on halves of one D' give away: attacks with one another as shadows, and what they memorized."""

import io
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from torch import Tensor

from study.attacks import audit, counterfactual_memorization
from study.corruption import Corrupted
from study.errors import BadInputError

Row = dict[str, Any]
MAIN = "lira_online"
"""The attack that stands for a member in `members`."""
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
    (row,) = (row for row in rows if (row["member"], row["attack"], row["group"]) == (model, MAIN, "all"))
    return {"mia_attack": MAIN, "mia_auc": row["auc"], "mia_tpr_at_1e3fpr": row["tpr_at_1e3fpr"]}


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
