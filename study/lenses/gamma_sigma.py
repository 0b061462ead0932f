"""The lens on gamma/sigma: by how much each batch norm amplifies its input (section 5 of the paper, Fig. 7 and 9).

It measures at initialization too, for ratios may be large before anything is learned: gamma is 1 then, and sigma is
what the input's scale and the initial weights make it. A running variance is 1 before the first step, whatever the
input, so sigma is then the standard deviation over the first samples of training (`Trained.at_initialization`).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from study.lenses.trained import Trained
from study.networks.norms import gammas_and_sigmas
from study.record.rows import Measurement, Measurements
from study.trial import Trial

QUANTILES = {"median": 0.5, "q05": 0.05, "q95": 0.95}
COLUMNS = [f"{what}_{statistic}" for what in ("ratio", "gamma", "sigma") for statistic in ("mean", *QUANTILES)]


def wanted(trial: Trial) -> bool:  # noqa: ARG001
    """Return True: a network without batch norm has no rows, whatever norm was asked for."""
    return True


def at_start(trained: Trained) -> Measurements:
    """Measure each layer's distribution at initialization, the rows of `layers` for epoch 0."""
    return at_epoch(trained)


def at_epoch(trained: Trained) -> Measurements:
    """Measure each layer's distribution, the rows of `layers`."""
    return {member: Measurement(tables={"layers": rows}) for member, rows in enumerate(by_layer(trained.pack.networks))}


def at_end(trained: Trained) -> Measurements:
    """Measure the mean over layers, a column of `members`."""
    return {
        member: Measurement(members={"gamma_over_sigma": overall(rows)})
        for member, rows in enumerate(by_layer(trained.pack.networks))
    }


def by_layer(networks: Sequence[nn.Module]) -> list[list[dict[str, Any]]]:
    """Return how |gamma|, sigma and their ratio are distributed over each affine batch norm's channels.

    sigma is the running standard deviation, epsilon within. `depth` counts the layers from 0 in the order of their
    registration. Networks without batch norm have no rows.

    Args:
        networks: of one architecture, on one device.

    Returns:
        The rows of `layers` of each network.
    """
    by_network = [gammas_and_sigmas(network) for network in networks]
    layers = {
        name: [torch.stack(each).double() for each in zip(*(of[name] for of in by_network), strict=True)]
        for name in by_network[0]
    }
    # A host waits for its device whenever it asks for a value, so all values come over together.
    distributions = [
        torch.cat([_distribution(each) for each in (gamma / sigma, gamma, sigma)], dim=1)
        for gamma, sigma in layers.values()
    ]
    values = torch.stack(distributions).tolist() if layers else []
    return [
        [
            {"layer": name, "depth": depth, "channels": gamma.shape[1]}
            | dict(zip(COLUMNS, values[depth][member], strict=True))
            for depth, (name, (gamma, _)) in enumerate(layers.items())
        ]
        for member in range(len(networks))
    ]


def _distribution(channels: Tensor) -> Tensor:
    """Return the mean and the quantiles over the channels, [M, 4], of numbers [M, channels]."""
    levels = (channels.quantile(level, dim=1) for level in QUANTILES.values())
    return torch.stack([channels.mean(dim=1), *levels], dim=1)


def overall(layers: Sequence[dict[str, Any]]) -> float | None:
    """Return the mean over layers of each layer's mean over channels; None without batch norm."""
    means = torch.tensor([layer["ratio_mean"] for layer in layers], dtype=torch.float64)
    return means.mean().item() if len(means) else None
