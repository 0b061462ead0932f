"""gamma/sigma of each batch norm: the amplification that section 5 of the paper is about (Fig. 7 and 9)."""

from typing import Any

import torch
from torch import nn

from study.norms import gamma_over_sigma


def ratios(network: nn.Module) -> list[dict[str, Any]]:
    """The distribution of |gamma| / sigma over the channels of each affine batch norm, in the columns of `layers`.

    sigma is the running standard deviation, epsilon within. `depth` counts the layers from 0 in the order of their
    registration. A network without batch norm has no rows.
    """
    return [
        {
            "layer": name,
            "depth": depth,
            "channels": len(ratio),
            "ratio_mean": ratio.double().mean().item(),
            "ratio_median": ratio.double().quantile(0.5).item(),
            "ratio_q05": ratio.double().quantile(0.05).item(),
            "ratio_q95": ratio.double().quantile(0.95).item(),
        }
        for depth, (name, ratio) in enumerate(gamma_over_sigma(network).items())
    ]


def overall(layers: list[dict[str, Any]]) -> float | None:
    """The mean over layers of each layer's mean over channels; None without batch norm."""
    means = torch.tensor([layer["ratio_mean"] for layer in layers], dtype=torch.float64)
    return means.mean().item() if len(means) else None
