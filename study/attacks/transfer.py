"""A network to attack in place of another: images that fool it are shown to that one, which knows nothing of it."""

import torch
from torch import nn

from study.data.dataset import Dataset, Split, to_float
from study.engine.pack import Pack, Single
from study.network_of import network_of
from study.training.loop import Member, Training

FITTED_TO, PENALTY = 2_000, 10.0
"""How many samples of D the linear classifier is fitted to at most, and the weight of the penalty on its size."""


def linear_source(train: Split, classes: int, like: Pack) -> Pack:
    """Return a linear classifier of pixels, fitted to D by least squares with a penalty, as a pack of one.

    It has nothing random, and is the same for all members and arms.

    Args:
        train: D.
        classes: the number of logits.
        like: whose dtype and device it is to have.
    """
    images = to_float(train.images[:FITTED_TO], torch.float64).flatten(1)
    targets = nn.functional.one_hot(train.labels[:FITTED_TO], classes).double()
    centred = images - images.mean(dim=0)
    # Of few samples of many pixels, the equations of the samples are the fewer.
    of_samples = centred @ centred.T + PENALTY * torch.eye(len(images), dtype=torch.float64)
    weight = (centred.T @ torch.linalg.solve(of_samples, targets - targets.mean(dim=0))).T
    layer = nn.Linear(images.shape[1], classes)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(targets.mean(dim=0) - weight @ images.mean(dim=0))
    network = nn.Sequential(nn.Flatten(), layer).to(like.device, like.dtype)
    return Single([network.eval()])


def trained_source(member: Member, data: Dataset, like: Pack) -> Pack:
    """Return the network that is attacked in place of a member, trained on the same D', as a pack of one in eval mode.

    Its seed is its own, so that it is another network than the member's even where it has the same layers, and the same
    in all arms.

    Args:
        member: of a trial with a `source`.
        data: its dataset.
        like: whose dtype and device it is to have.
    """
    trial = member.trial.source_of(member.seed)
    own = Member(trial, trial.seed[0], member.corrupted)
    source = Single([network_of(trial, data, own.stream_seed).to(like.device, like.dtype)])
    with torch.enable_grad():
        for _ in Training(source, [own]):
            pass
    source.train(False)
    return source
