"""The lens on gamma/sigma: by how much each batch norm amplifies its input (section 5 of the paper, Fig. 7 and 9)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from study.lenses.trained import Trained
from study.networks.norms import gamma_over_sigma
from study.record.rows import Measurement, Measurements
from study.trial import Trial

QUANTILES = {"ratio_median": 0.5, "ratio_q05": 0.05, "ratio_q95": 0.95}


def wanted(trial: Trial) -> bool:  # noqa: ARG001
    """Return True: a network without batch norm has no rows, whatever norm was asked for."""
    return True


def at_epoch(trained: Trained) -> Measurements:
    """Measure each layer's distribution, the rows of `layers`."""
    return {member: Measurement(tables={"layers": rows}) for member, rows in enumerate(ratios(trained.pack.networks))}


def at_end(trained: Trained) -> Measurements:
    """Measure the mean over layers, a column of `members`."""
    return {
        member: Measurement(members={"gamma_over_sigma": overall(rows)})
        for member, rows in enumerate(ratios(trained.pack.networks))
    }


def ratios(networks: Sequence[nn.Module]) -> list[list[dict[str, Any]]]:
    """Return the distribution of |gamma| / sigma over the channels of each affine batch norm, as rows of `layers`.

    sigma is the running standard deviation, epsilon within. `depth` counts the layers from 0 in the order of their
    registration. Networks without batch norm have no rows.

    Args:
        networks: of one architecture, on one device.

    Returns:
        The rows of each network.
    """
    by_network = [gamma_over_sigma(network) for network in networks]
    layers = {name: torch.stack([ratio[name] for ratio in by_network]).double() for name in by_network[0]}
    # A host waits for its device whenever it asks for a value, so all values come over together.
    values = torch.stack([_distribution(ratio) for ratio in layers.values()]).tolist() if layers else []
    return [
        [
            {"layer": name, "depth": depth, "channels": ratio.shape[1]}
            | dict(zip(("ratio_mean", *QUANTILES), values[depth][member], strict=True))
            for depth, (name, ratio) in enumerate(layers.items())
        ]
        for member in range(len(networks))
    ]


def _distribution(ratio: Tensor) -> Tensor:
    """Return the mean and the quantiles over the channels, [M, 4], of ratios [M, channels]."""
    levels = (ratio.quantile(level, dim=1) for level in QUANTILES.values())
    return torch.stack([ratio.mean(dim=1), *levels], dim=1)


def overall(layers: Sequence[dict[str, Any]]) -> float | None:
    """Return the mean over layers of each layer's mean over channels; None without batch norm."""
    means = torch.tensor([layer["ratio_mean"] for layer in layers], dtype=torch.float64)
    return means.mean().item() if len(means) else None
