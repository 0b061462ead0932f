"""Small networks with norms in every place that one can stand in."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGE = (3, 8, 8)


class Residual(nn.Module):
    """A block as in ResNet: the input of each norm is a convolution's output, and ReLU works in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.shortcut = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        features = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(images)))))
        return self.head(self.relu(features + self.shortcut(images)).mean(dim=(2, 3)))


class PreActivation(nn.Module):
    """A block as in ResNet v2: norms come before convolutions, and the input of one is a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, bias=False)
        self.bn1, self.conv1 = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn3, self.head = nn.BatchNorm2d(4), nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        inside = self.conv1(F.relu(self.bn1(features)))
        features = features + self.conv2(F.relu(self.bn2(inside)))
        return self.head(F.relu(self.bn3(features)).mean(dim=(2, 3)))


class InPlace(nn.Module):
    """The norm's input is the very tensor of the convolution's output, after ReLU has changed it in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.head = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.bn(F.relu_(self.conv(images))).mean(dim=(2, 3)))


class Dense(nn.Module):
    """The norm's input is a concatenation, as in DenseNet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.head = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(7), nn.Linear(7, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.bn(torch.cat([images, self.conv(images)], dim=1)).mean(dim=(2, 3)))


class Sequence(nn.Module):
    """Rows of an image as channels of a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.head = nn.Conv1d(24, 4, 3, bias=False), nn.BatchNorm1d(4), nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.bn(self.conv(images.flatten(1, 2))).mean(dim=2))


class OnePixel(nn.Module):
    """The norm's input are maps of a single pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.head = nn.Conv2d(3, 4, 8, bias=False), nn.BatchNorm2d(4), nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.bn(self.conv(images)).flatten(1))


class Twice(nn.Module):
    """One norm, registered under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.head = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Linear(4, 5)
        self.block = nn.Sequential(self.conv, self.bn)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.block(images).mean(dim=(2, 3)))


class Reused(nn.Module):
    """One norm, reached from two convolutions, first with one pixel and then with many."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 4, 6, bias=False)
        self.bn, self.head = nn.BatchNorm2d(4), nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        features = self.conv1(images)
        return self.head((self.bn(self.conv2(features)) + self.bn(features)).mean(dim=(2, 3)))


class Volume(nn.Module):
    """Channels of an image as the depth of a volume."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.head = nn.Conv3d(1, 4, 3, bias=False), nn.BatchNorm3d(4), nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.bn(self.conv(images[:, None])).mean(dim=(2, 3, 4)))


class Tokens(nn.Module):
    """Rows of an image as tokens, with norms after linear layers with and without a bias, and after a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.ln1 = nn.Linear(24, 6, bias=False), nn.LayerNorm(6, eps=1e-3)
        self.mlp, self.ln2 = nn.Linear(6, 6), nn.LayerNorm(6)
        self.ln3, self.head = nn.LayerNorm(6, bias=False), nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.ln1(self.embed(images.transpose(1, 2).flatten(2)))
        tokens = tokens + self.ln2(self.mlp(tokens))
        return self.head(self.ln3(tokens).mean(dim=1))


class Encoder(nn.Module):
    """Torch's own transformer layers, which in eval mode have a fused path around their norms."""

    def __init__(self, norm_first: bool = True) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(24, 2, 16, dropout=0.0, batch_first=True, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(24, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(images.transpose(1, 2).flatten(2)).mean(dim=1))


class Mixed(nn.Module):
    """A stem with batch norm before tokens with layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.ln, self.head = nn.LayerNorm(4), nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.ln(self.bn(self.conv(images)).flatten(2).transpose(1, 2)).mean(dim=1))


class Unreached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.spare = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        return self.bn(self.conv(images))
