import pytest
import torch
from torch import nn

from study.data.dataset import Dataset
from study.networks import build
from study.networks.catalog import NetworkOptions
from study.networks.standardize import standardize_by

MNIST = (1, 28, 28)


def layers(architecture: str, shape: tuple[int, int, int] = MNIST, classes: int = 10, **options: int) -> list[str]:
    """The layers of a network, in order: a linear one by its ends, with b where it has a bias."""
    network = build.build(
        architecture, shape, classes, "batch" if architecture != "linear" else "none", 0, NetworkOptions(**options)
    )
    described = []
    for layer in network:
        if isinstance(layer, nn.Linear):
            described.append(f"{layer.in_features}-{layer.out_features}{'b' * (layer.bias is not None)}")
        else:
            described.append(type(layer).__name__.removesuffix("1d"))
    return described


@pytest.mark.parametrize(
    ("architecture", "shape", "options", "wanted"),
    [
        ("linear", MNIST, {}, "Flatten 784-10b"),
        ("mlp", MNIST, {}, "Flatten 784-392b ReLU 392-196 BatchNorm ReLU 196-10b"),
        ("mlp", (1, 56, 56), {}, "Flatten 3136-1568b ReLU 1568-784 BatchNorm ReLU 784-10b"),
        (
            "deep_mlp",
            MNIST,
            {"hidden_layers": 2},
            "Flatten 784-384 BatchNorm ReLU 384-384 BatchNorm ReLU 384-10b",
        ),
        (
            "mlp_2d",
            MNIST,
            {},
            "Flatten 784-392 BatchNorm ReLU 392-196 BatchNorm ReLU 196-2b ReLU 2-49b ReLU 49-10b",
        ),
        (
            "spheres_mlp",
            (2, 1, 1),
            {},
            "Flatten 2-1000 BatchNorm 1000-1000b ReLU BatchNorm 1000-1000b ReLU 1000-10b",
        ),
    ],
)
def test_networks_are_those_of_the_paper_of_2019(architecture, shape, options, wanted):
    assert " ".join(layers(architecture, shape, **options)) == wanted


def test_the_deep_linear_network_has_batch_norm_before_each_of_thirty_layers():
    assert layers("deep_linear", (2, 1, 1), 2) == [
        "Flatten",
        "2-10",
        *["BatchNorm", "10-10"] * 29,
        "BatchNorm",
        "10-10b",
        "10-2b",
    ]


def test_initial_weights_are_those_of_the_paper_of_2019():
    deep = build.build("deep_mlp", MNIST, 10, "none", 0, NetworkOptions(hidden_layers=3))
    weight = deep[4].weight
    assert weight.var().item() == pytest.approx(2 / 384, rel=6 * (2 / weight.numel()) ** 0.5)
    linear = build.build("linear", MNIST, 10, "none", 0)[1]
    assert linear.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not linear.bias.any()


def test_constants_of_norms_are_set_before_they_are_swapped():
    options = NetworkOptions(norm_eps=1e-3, norm_momentum=0)
    batch, group = (build.build("lenet", MNIST, 10, norm, 0, options) for norm in ("batch", "group"))
    assert {(layer.eps, layer.momentum) for layer in batch if "BatchNorm" in type(layer).__name__} == {(1e-3, None)}
    assert {layer.eps for layer in group if isinstance(layer, nn.GroupNorm)} == {1e-3}


def test_a_momentum_of_0_is_the_mean_over_all_batches():
    layer = build.build("mlp", MNIST, 10, "batch", 0, NetworkOptions(norm_momentum=0))
    norm, seen = layer[4], []
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    for seed in range(3):
        layer.train()(torch.rand(8, *MNIST, generator=torch.Generator().manual_seed(seed)))
    means = torch.stack([features.mean(dim=0) for features in seen])
    torch.testing.assert_close(norm.running_mean, means.mean(dim=0))


def test_a_standardized_network_subtracts_a_mean_and_divides_by_a_spread(tiny: Dataset):
    images = torch.rand(4, *MNIST, dtype=torch.float64)
    plain = build.build("lenet", MNIST, 10, "batch", 3).double().eval()
    standardized = build.build("lenet", MNIST, 10, "batch", 3, NetworkOptions(standardized=True)).double().eval()
    assert torch.equal(standardized(images), plain(images))
    standardize_by(standardized, torch.tensor([0.2]), torch.tensor([0.5]))
    torch.testing.assert_close(standardized(images), plain((images - 0.2) / 0.5), rtol=1e-6, atol=1e-6)
