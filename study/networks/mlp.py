"""Networks of linear layers: those of Galloway et al. (2019), with batch norm where they had it.

Each takes images [N, C, H, W] of any size as vectors. A linear layer that feeds a batch norm has no bias, because batch
norm would cancel it; `norms.swap` gives it one where the norm is removed.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from study.networks.catalog import NETWORKS
from study.networks.parts import Shape


def linear(shape: Shape, classes: int) -> nn.Module:
    """Build a linear classifier, which has no norm (Table 11); its weights have a standard deviation of 0.01."""
    (layer,) = _linear_layers("linear", shape, classes)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.Flatten(), layer)


def mlp(shape: Shape, classes: int) -> nn.Module:
    """Build an MLP with two hidden layers, each of half its inputs, and batch norm in the second (Tables 6, 7 and 12).

    Where the paper's batch norm is it doesn't say; before the ReLU of the second layer its numbers are met best. The
    initialization is torch's own.
    """
    first, second, last = _linear_layers("mlp", shape, classes, normed=[1])
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, _batch_norm(second), nn.ReLU(), last)


def deep_mlp(shape: Shape, classes: int, hidden_layers: int = 1) -> nn.Module:
    """Build an MLP of so many hidden layers of 384 ReLUs, with batch norm before each (Figures 2, 3 and 5).

    Its weights are He et al.'s, normal with a variance of two over the layer's inputs.
    """
    *hidden, last = _linear_layers("deep_mlp", shape, classes, hidden_layers, normed=range(hidden_layers))
    for layer in (*hidden, last):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(last.bias)
    normed = [part for layer in hidden for part in (layer, _batch_norm(layer), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *normed, last)


def mlp_2d(shape: Shape, classes: int) -> nn.Module:
    """Build an MLP with a layer of two units, whose activations can be drawn (Figure 4).

    Batch norm comes before the ReLU of the first two layers. The two units are read off before their own ReLU.
    """
    first, second, two, fourth, last = _linear_layers("mlp_2d", shape, classes, normed=[0, 1])
    return nn.Sequential(
        nn.Flatten(),
        *(first, _batch_norm(first), nn.ReLU()),
        *(second, _batch_norm(second), nn.ReLU()),
        *(two, nn.ReLU()),
        *(fourth, nn.ReLU()),
        last,
    )


def spheres_mlp(shape: Shape, classes: int) -> nn.Module:
    """Build the network of the adversarial spheres (Figure 8): batch norm stands before a layer of 1,000 ReLUs, twice.

    A linear layer leads from the image to the first batch norm.
    """
    first, second, third, last = _linear_layers("spheres_mlp", shape, classes, normed=[0])
    return nn.Sequential(
        *(nn.Flatten(), first),
        *(_batch_norm(first), second, nn.ReLU()),
        *(nn.BatchNorm1d(second.out_features), third, nn.ReLU()),
        last,
    )


def deep_linear(shape: Shape, classes: int) -> nn.Module:
    """Build a linear network of 30 layers of ten units with batch norm before each (Figures 1 and 7)."""
    first, *others, last = _linear_layers("deep_linear", shape, classes, normed=range(30))
    layers: list[nn.Module] = [nn.Flatten(), first]
    for layer in others:
        layers += [nn.BatchNorm1d(layer.in_features), layer]
    return nn.Sequential(*layers, last)


def _linear_layers(
    name: str, shape: Shape, classes: int, hidden_layers: int = 0, normed: Sequence[int] = ()
) -> list[nn.Linear]:
    """Return a network's linear layers, of the widths of its row in the catalog; those before a norm lack a bias."""
    channels, height, width = shape
    inputs = channels * height * width
    of_network = NETWORKS[name].widths
    assert of_network is not None
    widths = (inputs, *of_network(inputs, hidden_layers), classes)
    return [nn.Linear(*ends, bias=layer not in normed) for layer, ends in enumerate(pairwise(widths))]


def _batch_norm(layer: nn.Linear) -> nn.BatchNorm1d:
    """Return the batch norm of a linear layer's outputs."""
    return nn.BatchNorm1d(layer.out_features)
