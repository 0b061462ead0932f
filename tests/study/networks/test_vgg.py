import torch
import torchvision
from torch import nn

from tests.study.networks.examples import drawn, noise


def test_vgg_has_torchvisions_convolutions_in_its_order():
    ours, theirs = drawn("vgg11").features, torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["A"], True)
    theirs.load_state_dict({**theirs.state_dict(), **ours.state_dict()})
    for layer in theirs:
        if isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.bias)
    images = noise(shape=(3, 32, 32))
    assert torch.equal(ours(images), theirs(images))
