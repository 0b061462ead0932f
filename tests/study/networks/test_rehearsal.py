"""Networks of the user's that are refused before any training, and the like that are not."""

import os
import random
import time
from collections import namedtuple
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from study import seeds
from study.errors import BadInputError
from study.networks import rehearsal

SHAPE, CLASSES = (3, 8, 8), 5
GENERATOR = torch.Generator().manual_seed(0)
IMAGES, LABELS = torch.rand(16, *SHAPE, generator=GENERATOR), torch.arange(16) % CLASSES
Outputs = namedtuple("Outputs", ["logits", "aux_logits"])


class Net(nn.Module):
    """A small network with a batch norm, on which the others differ in a line."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, CLASSES)

    def features(self, images: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(images))).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


def rehearse(make: Callable[[], nn.Module], norm: str = "batch", batch_size: int = 16, seed: int = 0) -> None:
    """Rehearse a network as `build.check` does."""

    def build() -> nn.Module:
        with seeds.torch_stream(seed, "init"):
            return make()

    rehearsal.rehearse("mine:net", norm, build, IMAGES, LABELS, CLASSES, batch_size)


def drawing(draw: Callable[[], object]) -> Callable[[], nn.Module]:
    """Return a factory with weights of its own making."""

    def make() -> nn.Module:
        network = Net()
        with torch.no_grad():
            network.head.weight.copy_(torch.as_tensor(np.asarray(draw(), dtype=np.float32).reshape(CLASSES, 4)))
        return network

    return make


class Tuple(Net):
    def forward(self, images: Tensor) -> object:
        logits = super().forward(images)
        return (logits, logits) if self.training else logits


class Inception(Net):
    def forward(self, images: Tensor) -> object:
        logits = super().forward(images)
        return Outputs(logits, logits) if self.training else logits


class Dict(Net):
    def forward(self, images: Tensor) -> object:
        logits = super().forward(images)
        return {"logits": logits} if self.training else logits


class Wide(Net):
    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits.repeat(1, 2) if self.training else logits


class Squeezed(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).squeeze()


class Half(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).half()


class Whole(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).argmax(dim=1, keepdim=True).expand(-1, CLASSES)


class Detached(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).detach()


class Dropped(Net):
    """The function's default is to drop in eval mode too."""

    def forward(self, images: Tensor) -> Tensor:
        return self.head(F.dropout(self.features(images)))


class Noisy(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + random.gauss(0, 0.1)


class Numpy(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * (1 + 0.1 * np.random.rand())


class Attending(Net):
    """Its attention is over the images of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images)
        return self.head(self.attention(features, features, features)[0])


class Centered(Net):
    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits - logits.mean(dim=0)


class Untracked(Net):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(4, track_running_stats=False)


class Stubborn(Net):
    """It stays in train mode whatever it is told."""

    def train(self, mode: bool = True) -> nn.Module:
        return super().train(True)


class Zeroed(Untracked):
    """Its head starts at zero, which hides what comes before it."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)


class InPlace(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.sub_(0.5))


class NotANumber(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) / torch.zeros(())


class Broken(Net):
    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            raise ValueError("no labels")
        return super().forward(images)


class Shuffled(Net):
    """Random in train mode, by a generator of its own."""

    def forward(self, images: Tensor) -> Tensor:
        noise = torch.as_tensor(np.random.default_rng().normal(size=(len(images), CLASSES)), dtype=images.dtype)
        return super().forward(images) + (noise if self.training else 0)


class Counting(Net):
    """Its logits drift from call to call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(images) * self.calls


class Even(Net):
    """It pairs the images of a batch in train mode."""

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits.view(2, -1, CLASSES).flatten(0, 1) if self.training else logits


class Scale(Net):
    """It draws a number that is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = int.from_bytes(os.urandom(4)) / 2**32

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * self.scale


class Normalizing(nn.Module):
    """A batch norm that is written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 4, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        mean = features.mean(dim=(0, 2, 3), keepdim=True) if self.training else self.mean
        return features - mean


class Handmade(Net):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), Normalizing())


class Functional(Net):
    """A batch norm beside the registered one, which is a function."""

    def features(self, images: Tensor) -> Tensor:
        features = F.batch_norm(self.conv(images), torch.zeros(4), torch.ones(4), training=self.training)
        return F.relu(self.bn(features)).mean(dim=(2, 3))


class Hidden(Net):
    """A batch norm that the network doesn't know of."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = [nn.BatchNorm2d(4)]

    def features(self, images: Tensor) -> Tensor:
        return F.relu(self.norms[0].train(self.training)(self.bn(self.conv(images)))).mean(dim=(2, 3))


class Remembering(Net):
    """It keeps a mean of its logits in a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.mean: Tensor | float = 0.0

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        if self.training:
            self.mean = logits.detach().mean(dim=0)
            return logits
        return logits - self.mean


class Warming(Net):
    """It counts its steps in a plain attribute."""

    steps = 0

    def forward(self, images: Tensor) -> Tensor:
        self.steps += self.training
        return super().forward(images) / (1 + self.steps)


class Unsaved(Net):
    """It keeps what it has seen in a buffer that isn't saved."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        self.steps += self.training
        return super().forward(images) / (1 + self.steps)


class Growing(Net):
    """It keeps its features in a buffer of another size."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(0, 4))

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images)
        if self.training:
            self.seen = torch.cat([self.seen, features.detach()])
        return self.head(features)


class Probable(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).softmax(dim=1)


class NotANumberInTraining(Net):
    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits / torch.zeros(()) if self.training else logits


class Leaving(Net):
    def forward(self, images: Tensor) -> Tensor:
        raise SystemExit(0)


BACKBONE = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
PLAIN = np.random.default_rng(0)

REFUSED = {
    Tuple: "must give logits of shape [16, 5] for 16 3x8x8 images in train mode, not a tuple.",
    Inception: "for 16 3x8x8 images in train mode, not a Outputs.",
    Dict: "for 16 3x8x8 images in train mode, not a dict.",
    Wide: "for 16 3x8x8 images in train mode, not [16, 10].",
    Squeezed: "must give logits of shape [1, 5] for 1 3x8x8 image in eval mode, not [5].",
    Half: "gives logits of float16 for 8 3x8x8 images in eval mode: have it return float32.",
    Whole: "gives logits of int64",
    Detached: "gives logits without a gradient in train mode",
    Dropped: "gives an image other logits each time in eval mode, from before layer 'head' on",
    Noisy: "gives an image other logits each time in eval mode",
    Numpy: "gives an image other logits each time in eval mode",
    Counting: "gives an image other logits each time in eval mode",
    Attending: "gives an image other logits beside other images in eval mode",
    Centered: "gives an image other logits beside other images in eval mode: have it compute each image by itself",
    Untracked: "from layer 'bn' on: layer 'bn' has no running statistics and normalizes over the batch in eval",
    Zeroed: "from layer 'bn' on: layer 'bn' has no running statistics",
    Stubborn: "gives an image other logits beside other images in eval mode, from layer 'bn' on",
    InPlace: "changes the images that it is given in eval mode: have it work on a clone.",
    NotANumber: "gives logits that are not finite before any training",
    Broken: "fails on 16 3x8x8 images in train mode: ValueError: no labels.",
    Shuffled: "takes another step each time from the same weights and seed",
    Even: "fails on 13 3x8x8 images in train mode: RuntimeError: shape '[2, -1, 5]'",
    Handmade: "in train mode by more than torch's batch norms, from layer 'conv.1' on, which would",
    Functional: "in train mode by more than torch's batch norms, from before layer 'bn' on",
    Hidden: "in train mode by more than torch's batch norms, from before layer 'head' on",
    Remembering: "keeps of a training step what its state_dict lacks, so that it would be lost",
    Warming: "keeps of a training step what its state_dict lacks",
    Unsaved: "keeps of a training step what its state_dict lacks",
    Growing: "keeps of a training step what its state_dict lacks (RuntimeError: Error(s) in loading",
    Probable: "gives probabilities, not logits: leave out the softmax at its end.",
    NotANumberInTraining: "gives logits that are not finite in train mode before any training",
    Leaving: "fails on 8 3x8x8 images in eval mode: SystemExit: 0.",
    Scale: "is another network each time that it is built",
    lambda: nn.Sequential(BACKBONE, nn.Linear(4, CLASSES)): "has the same '0.0.weight' in each network",
    lambda: Net().requires_grad_(False): "has no trainable parameters",
    drawing(lambda: np.random.default_rng().normal(size=20)): "starts from another 'head.weight' each time that it is",
    drawing(lambda: random.SystemRandom().sample(range(99), 20)): "starts from another 'head.weight' each time",
    drawing(lambda: list(os.urandom(20))): "starts from another 'head.weight' each time that it is built: have its",
    drawing(lambda: PLAIN.normal(size=20)): "starts from another 'head.weight' each time that it is built: have its",
    drawing(lambda: np.random.default_rng(int(time.time())).normal(size=20)): "starts from another 'head.weight'",
}


@pytest.mark.parametrize(
    ("make", "said"), REFUSED.items(), ids=[f"{number} {make.__name__}" for number, make in enumerate(REFUSED)]
)
def test_an_unfit_network_is_refused_in_one_sentence(make, said):
    with pytest.raises(BadInputError) as caught:
        rehearse(make)
    assert str(caught.value).startswith("architecture=mine:net with norm=batch ")
    assert said in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


class Dropping(Net):
    def forward(self, images: Tensor) -> Tensor:
        return self.head(F.dropout(self.features(images), training=self.training))


class Deep(Net):
    """A depth that NumPy and random draw in train mode."""

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images)
        if self.training and random.random() < 0.5 and np.random.rand() < 0.5:
            features = features + 1
        return self.head(features)


class Single(Net):
    """It computes in float32, whatever it is given."""

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images.float()))


class Copied(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.clone().sub_(0.5))


class Keeping(Net):
    """It keeps what it has just seen for whoever looks, and a count in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.last = self.features(images)
        self.steps += self.training
        return self.head(self.last) / (1 + self.steps)


class Spectral(Net):
    """Its convolution changes its state in each pass in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.spectral_norm(self.conv)


class LogProbable(Net):
    """Logarithms of probabilities are logits."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).log_softmax(dim=1)


class PerImage(Net):
    """It has norms of other kinds as well, each over an image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(self.conv, nn.InstanceNorm2d(4, track_running_stats=True), nn.GroupNorm(2, 4))


FIT = [
    *(Net, Dropping, Deep, Single, Copied, Keeping, Spectral, LogProbable, PerImage),
    drawing(lambda: np.random.normal(size=20)),
    drawing(lambda: [random.gauss(0, 1) for _ in range(20)]),
    drawing(lambda: np.random.default_rng(0).normal(size=20)),
]


@pytest.mark.slow
@pytest.mark.parametrize("make", FIT, ids=[f"{number} {make.__name__}" for number, make in enumerate(FIT)])
def test_a_network_that_chance_changes_in_train_mode_alone_is_fit(make):
    before = seeds.global_state()
    rehearse(make)
    assert seeds.global_state() == before


def test_batches_of_two_are_enough():
    rehearse(Net, batch_size=2)
    rehearse(Net, batch_size=1)


def test_logits_that_overflow_without_norms_are_an_outcome_and_not_refused():
    rehearse(NotANumber, norm="none")


def test_that_a_network_takes_long_is_said(monkeypatch, capsys):
    monkeypatch.setattr(rehearsal, "LONG_S", 0.0)
    rehearse(Net)
    said = capsys.readouterr().err
    assert said.startswith(
        "architecture=mine:net with norm=batch has been tried for 0 s before any training; if it never"
    )
