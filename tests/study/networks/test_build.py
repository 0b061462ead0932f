import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from study import seeds
from study.errors import BadInputError
from study.networks import build
from study.networks.catalog import NETWORKS, NORMS, TOKEN_NORMS
from study.networks.norms import batch_norms
from study.networks.wide_resnet import SIZES
from tests.study.networks.examples import IMAGE, TRANSFORMERS, built_with, drawn, lenet, logits_shape, noise, unweighted

ARMS = [(name, norm) for name in NETWORKS for norm in (TOKEN_NORMS if name in TRANSFORMERS else NORMS)]
FAMILIES = ("lenet", "resnet18", "densenet121", "vgg8", "vit")
"""One network of each kind; the others differ in depth alone."""


def test_only_trainable_parameters_are_counted():
    network = nn.Linear(3, 2)
    network.bias.requires_grad_(False)
    assert build.count_parameters(network) == 6


def test_initial_weights_depend_on_the_seed_alone():
    one = lenet(seed=1).state_dict()
    torch.manual_seed(1234)
    torch.rand(10)
    again, other = lenet(seed=1).state_dict(), lenet(seed=2).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["0.weight"], other["0.weight"])


def test_building_leaves_the_global_generator_as_it_was():
    before = torch.get_rng_state()
    lenet("group")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_built_network_has_seen_no_data():
    for _, layer in batch_norms(lenet("batch")):
        assert int(layer.num_batches_tracked) == 0
        assert torch.equal(layer.running_mean, torch.zeros_like(layer.running_mean))
        assert torch.equal(layer.running_var, torch.ones_like(layer.running_var))
    assert all(parameter.dtype == torch.float32 for parameter in lenet("none").parameters())


@pytest.mark.parametrize(("architecture", "norm"), ARMS)
def test_every_arm_gives_a_logit_for_each_class_at_every_size(architecture, norm):
    sizes = [(1, 28, 28), (3, 32, 32), (3, 64, 64)] if norm == "instance" else [(1, 28, 28)]
    for shape in sizes if architecture in FAMILIES else sizes[:1]:
        assert logits_shape(architecture, norm, shape) == (2, 7)


@pytest.mark.parametrize(
    ("architecture", "norm", "expected"),
    [
        # As counted by kuangliu/pytorch-cifar, whose ResNets have this stem.
        ("resnet18", "batch", 11_173_962),
        ("resnet34", "batch", 21_282_122),
        ("resnet50", "batch", 23_520_842),
        # There without the batch norm of 64 channels after the first convolution: 6,956,298.
        ("densenet121", "batch", 6_956_298 + 2 * 64),
        # There with a bias before each batch norm, one for each of 2752, 2944, 4224 and 5504 channels.
        ("vgg11", "batch", 9_231_114 - 2752),
        ("vgg13", "batch", 9_416_010 - 2944),
        ("vgg16", "batch", 14_728_266 - 4224),
        ("vgg19", "batch", 20_040_522 - 5504),
        # Five convolutions, their scales and shifts, and the linear layer.
        ("vgg8", "batch", 9 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512 * 512) + 2 * 1472 + 5130),
        # The convolutions of VGG-16 without norms are known to have 14,714,688 weights and biases.
        ("vgg16", "none", 14_714_688 + 5130),
        # The 3.19 million of ViT-Lite-6/4 in Hassani et al. (2021), whose queries, keys and values have no bias.
        ("vit", "layer", 3_190_538 + 6 * 3 * 256),
        ("vit", "none", 3_195_146 - 13 * 2 * 256),
        ("vit", "rms", 3_195_146),
        # A scale and a shift become one bias, but for the norms of DenseNet that take a concatenation.
        ("resnet18", "none", 11_173_962 - 4800),
        ("densenet121", "none", 6_880_266),
    ],
)
def test_parameters_are_as_many_as_published(architecture, norm, expected):
    assert build.count_parameters(unweighted(architecture, norm, (3, 32, 32))) == expected


@pytest.mark.parametrize("architecture", ["resnet18", "resnet34", "resnet50", "densenet121"])
def test_only_the_stem_and_the_head_are_not_as_large_as_torchvisions(architecture):
    published = torchvision.models.get_model_weights(architecture).DEFAULT.meta["num_params"]
    features = build.count_parameters(unweighted(architecture, "batch", (3, 32, 32), classes=1))
    head = 1024 if architecture == "densenet121" else 2048 if architecture == "resnet50" else 512
    assert features == published - 64 * 3 * (7 * 7 - 3 * 3) - 999 * (head + 1)


@pytest.mark.parametrize("architecture", [name for name in NETWORKS if name not in TRANSFORMERS])
def test_what_a_norm_adds_to_none_is_a_scale_for_each_channel_and_the_shifts_that_no_bias_replaced(architecture):
    channels = sum(layer.num_features for _, layer in batch_norms(drawn(architecture)))
    arms = {norm: unweighted(architecture, norm, IMAGE) for norm in ("batch", "rms", "none")}
    built = dict(arms["batch"].named_parameters())
    biases = sum(bias.numel() for name, bias in arms["none"].named_parameters() if name not in built)
    count = {norm: build.count_parameters(network) for norm, network in arms.items()}
    assert count["batch"] == count["rms"] == count["none"] - biases + 2 * channels
    # A norm that follows a ReLU, or a sum, has no layer before it whose bias could replace its shift.
    assert biases == channels or architecture in ("densenet121", "spheres_mlp", *SIZES)


@pytest.mark.parametrize("architecture", NETWORKS)
def test_whatever_two_arms_share_starts_from_the_same_values(architecture):
    norms = TOKEN_NORMS if architecture in TRANSFORMERS else NORMS
    reference = drawn(architecture).state_dict()
    for norm in norms if architecture in FAMILIES else ("none",):
        arm = build.build(architecture, IMAGE, 10, norm, seed=5).state_dict()
        shared = arm.keys() & reference.keys()
        assert all(torch.equal(arm[name], reference[name]) for name in shared)
        # Whatever isn't shared belongs to a norm, or is a bias that `none` puts in its place.
        assert not any(tensor.any() for name, tensor in arm.items() if name not in shared)
        assert all(name.endswith("bias") for name in arm.keys() - shared)
        lost = {name.rpartition(".")[0] for name in reference.keys() - shared}
        kinds = nn.LayerNorm if architecture in TRANSFORMERS else nn.BatchNorm1d | nn.BatchNorm2d
        assert all(isinstance(drawn(architecture).get_submodule(name), kinds) for name in lost)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_without_norms_the_first_logits_are_finite_and_steps_of_adam_keep_them_so(architecture):
    network = build.build(architecture, IMAGE, 10, "none", seed=5).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    losses = []
    for _ in range(3):
        loss = F.cross_entropy(network(noise()), torch.tensor([0, 1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(0 < loss < 50 for loss in losses)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(("architecture", "norm"), [arm for arm in ARMS if arm[0] in FAMILIES])
def test_every_parameter_of_every_arm_has_a_gradient(architecture, norm):
    network = build.build(architecture, IMAGE, 10, norm, seed=5).train()
    F.cross_entropy(network(noise()), torch.tensor([0, 1])).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("architecture", FAMILIES)
def test_an_arm_without_batch_norm_gives_an_image_the_same_logits_in_any_batch_and_mode(architecture):
    for norm in ("none", "rms"):
        network = build.build(architecture, IMAGE, 10, norm, seed=5)
        with torch.no_grad():
            together = network.train()(noise(3))
            alone = torch.cat([network.eval()(image) for image in noise(3).split(1)])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["resnet18", "densenet121", "vgg8"])
def test_none_is_the_function_of_batch_norm_with_identity_statistics(architecture):
    reference = copy.deepcopy(drawn(architecture)).double().eval()
    for _, layer in batch_norms(reference):
        nn.init.constant_(layer.running_var, 1 - layer.eps)
    none = build.build(architecture, IMAGE, 10, "none", seed=5).double().eval()
    images = noise().double()
    torch.testing.assert_close(none(images), reference(images), rtol=1e-9, atol=1e-9)


# Torchvision's networks


@pytest.mark.parametrize("architecture", ["resnet18", "densenet121"])
def test_it_is_torchvisions_network_but_for_the_stem(architecture):
    reference = getattr(torchvision.models, architecture)(num_classes=10)
    if architecture == "resnet18":
        reference.conv1, reference.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    else:
        reference.features.conv0 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        reference.features.pool0 = nn.Identity()
    network = copy.deepcopy(drawn(architecture))
    reference.load_state_dict(network.state_dict())
    for mode in (True, False):
        assert torch.equal(network.train(mode)(noise()), reference.train(mode)(noise()))


@pytest.mark.parametrize("architecture", ["resnet18", "densenet121"])
def test_initial_weights_are_torchvisions_but_for_the_stem(architecture):
    with seeds.torch_stream(5, "init"):
        theirs = getattr(torchvision.models, architecture)(num_classes=10).state_dict()
    ours = drawn(architecture).state_dict()
    different = {name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])}
    assert different == {"conv1.weight" if architecture == "resnet18" else "features.conv0.weight"}


@pytest.mark.parametrize(
    ("architecture", "layer", "variance"),
    [
        ("resnet18", "conv1", 2 / (64 * 9)),
        ("densenet121", "features.conv0", 2 / (3 * 9)),
        ("vgg8", "features.0", 2 / (64 * 9)),
        ("vgg8", "features.16", 2 / (512 * 9)),
        ("vgg8", "classifier", 0.01**2),
        ("vit", "conv_proj", 1 / (3 * 16)),
    ],
)
def test_layers_that_are_not_torchvisions_are_initialized_as_in_torchvision(architecture, layer, variance):
    weight = drawn(architecture).get_submodule(layer).weight
    # Six standard errors of the variance of a normal sample.
    assert weight.var().item() == pytest.approx(variance, rel=6 * (2 / weight.numel()) ** 0.5)
    assert weight.mean().item() == pytest.approx(0, abs=6 * (variance / weight.numel()) ** 0.5)


@pytest.mark.parametrize("architecture", ["resnet18", "vgg8"])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (33, 47)])
def test_resnet_and_vgg_take_images_of_any_size(architecture, size):
    for norm in NORMS:
        assert logits_shape(architecture, norm, (2, *size)) == (2, 7)


@pytest.mark.parametrize(
    ("architecture", "shape", "said"),
    [
        ("densenet121", (3, 7, 32), "densenet121 needs images of at least 8x8 pixels, not 7x32."),
        ("vit", (3, 30, 30), "vit needs square images with a side that 4 divides, not 30x30."),
        ("vit", (3, 28, 32), "vit needs square images with a side that 4 divides, not 28x32."),
    ],
)
def test_images_that_do_not_fit_are_refused(architecture, shape, said):
    with pytest.raises(BadInputError, match=said):
        build.build(architecture, shape, 10, built_with(architecture), seed=0)


def test_the_smallest_images_that_fit_are_taken():
    assert logits_shape("densenet121", "instance", (1, 8, 8)) == (2, 7)
    assert logits_shape("vit", "rms", (1, 4, 4)) == (2, 7)


def test_no_network_has_dropout():
    for architecture in NETWORKS:
        rates = [layer.p for layer in drawn(architecture).modules() if isinstance(layer, nn.Dropout)]
        assert not any(rates)
    assert not any(layer.dropout for layer in drawn("vit").modules() if isinstance(layer, nn.MultiheadAttention))
    assert not any(getattr(layer, "drop_rate", 0) for layer in drawn("densenet121").modules())
