import pytest
import torch
import torchvision
from torch.utils.flop_counter import FlopCounterMode

from study.errors import BadInputError
from study.networks import pretrained
from study.networks.build import build, count_parameters
from study.networks.catalog import NetworkOptions
from study.networks.norms import batch_norms
from study.networks.published import PUBLISHED, check_published
from study.trial import Trial
from tests.study.data.imagenet import publish_weights

ALL = [(row.name, norm) for row in PUBLISHED.values() for norm in row.models]
IMAGENET = {"dataset": "imagenet", "architecture": "torchvision:vgg11", "epochs": 0, "standardize": "paper2019"}


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    """Torch's folder of what it has downloaded, which is empty."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.parametrize(("architecture", "norm"), ALL)
def test_a_row_is_torchvisions_network_with_its_norm_and_its_operations(architecture, norm):
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network = pretrained.untrained(architecture, norm, 1000).eval()
        network(torch.zeros(1, 3, 224, 224))
    assert counter.get_total_flops() == PUBLISHED[architecture].operations
    assert bool(list(batch_norms(network))) == (norm == "batch")
    weights = torchvision.models.get_model_weights(PUBLISHED[architecture].models[norm])["IMAGENET1K_V1"]
    assert count_parameters(network) == weights.meta["num_params"]
    assert weights.url.endswith(".pth")


def test_weights_are_those_of_the_file(tmp_path, hub):
    publish_weights(hub, "resnet18")
    network = build("torchvision:resnet18", (3, 224, 224), 1000, "batch", 3, NetworkOptions(standardized=True))
    inner = network.get_submodule("network")
    pretrained.load_published(inner, "torchvision:resnet18", "batch", None)
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18().state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in inner.state_dict().items())
    # A file in the data folder comes first.
    publish_weights(tmp_path / "weights", "resnet18", seed=1)
    pretrained.load_published(inner, "torchvision:resnet18", "batch", tmp_path)
    assert not torch.equal(inner.state_dict()["fc.weight"], theirs["fc.weight"])


def test_the_earlier_names_in_densenets_file_are_known(hub):
    path = publish_weights(hub, "densenet121")
    tensors = torch.load(path, weights_only=True)
    earlier = {
        name.replace("norm1", "norm.1").replace("norm2", "norm.2").replace("conv1", "conv.1").replace("conv2", "conv.2")
        if "denselayer" in name and "num_batches" not in name
        else name: tensor
        for name, tensor in tensors.items()
    }
    assert len(earlier.keys() - tensors.keys()) > 500
    torch.save(earlier, path)
    network = pretrained.untrained("torchvision:densenet121", "batch", 1000)
    pretrained.load_published(network, "torchvision:densenet121", "batch", None)
    assert all(torch.equal(value, tensors[name]) for name, value in network.state_dict().items())


def test_a_file_that_is_missing_is_named_with_its_place(tmp_path):
    with pytest.raises(BadInputError) as caught:
        pretrained.weights_file("torchvision:vgg11", "batch", tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert f"put vgg11_bn-6002323d.pth into {str(tmp_path / 'weights')!r} or {str(tmp_path / 'hub')!r}"[:-1] in message
    assert message.endswith("https://download.pytorch.org/models/vgg11_bn-6002323d.pth.")


def test_a_file_that_is_damaged_or_of_another_network_is_refused(hub):
    path = publish_weights(hub, "resnet18")
    network = pretrained.untrained("torchvision:resnet18", "batch", 1000)
    whole = path.read_bytes()
    torch.save({"fc.weight": torch.zeros(2)}, path)
    others = path.read_bytes()
    for content in (whole[:1000], b"", others):
        path.write_bytes(content)
        with pytest.raises(BadInputError, match="is damaged, or has no weights of torchvision:resnet18") as caught:
            pretrained.load_published(network, "torchvision:resnet18", "batch", None)
        assert "\n" not in str(caught.value)


def test_a_file_that_is_not_the_published_one_is_said_to_be_another(hub, capsys):
    pretrained._say_other_content.cache_clear()
    publish_weights(hub, "resnet18")
    pretrained.weights_file("torchvision:resnet18", "batch", None)
    pretrained.weights_file("torchvision:resnet18", "batch", None)
    assert capsys.readouterr().err.count("is not what torchvision published under this name") == 1


def test_other_networks_and_norms_are_refused_with_the_nearest():
    check_published("vgg11", "group")
    with pytest.raises(BadInputError, match="did you mean 'torchvision:vgg1"):
        check_published("torchvision:vgg12", "batch")
    with pytest.raises(BadInputError, match="published with norm=none or norm=batch, not group"):
        check_published("torchvision:vgg11", "group")
    with pytest.raises(BadInputError, match="published with norm=batch, not none"):
        check_published("torchvision:resnet18", "none")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dataset": "cifar10"}, "has published weights for dataset=imagenet alone"),
        ({"architecture": "vgg11"}, "name one, such as architecture=torchvision:vgg11"),
        ({"epochs": 10}, "set epochs=0, not 10"),
        ({"standardize": "none"}, "set standardize=paper2019, not none"),
        ({"k": 0.1}, "set k=0, not 0.1"),
        ({"resize": 448}, "set resize=0, not 448"),
        ({"protocol": "splits"}, "set protocol=full, not splits"),
    ],
)
def test_imagenet_is_measured_with_published_networks_as_they_are(settings, said):
    with pytest.raises(BadInputError, match=said):
        Trial(**{**IMAGENET, **settings})


def test_2048_images_are_attacked_unless_more_are_asked_for():
    assert Trial(**IMAGENET).test_images == 0
    trial = Trial(**IMAGENET, robustness="paper2019")
    assert (trial.attack_samples, trial.test_images) == (2048, 2048)
    assert trial.id == Trial(**IMAGENET, robustness="paper2019", attack_samples=2048).id
    assert Trial(**IMAGENET, robustness="paper2019", attack_samples=50_000).test_images == 50_000
    assert Trial(robustness="pixel", attack_samples=64).test_images == 0
