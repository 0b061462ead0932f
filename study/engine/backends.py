"""The three backends behind one interface, and the proof that one fits a network before anything is trained."""

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from study.engine.grouped import Grouped
from study.engine.pack import Pack, Single, UnfitError
from study.engine.vmapped import Vmapped
from study.factories import reason
from study.probes import disturbed

BACKENDS: Mapping[str, Callable[[Sequence[nn.Module]], Pack]] = {
    "single": Single,
    "grouped": Grouped,
    "vmap": Vmapped,
}


def pack(backend: str, networks: Sequence[nn.Module], shape: tuple[int, int, int]) -> Pack:
    """The networks as one pack, if the backend gives each of them what it computes alone.

    Args:
        backend: a key of `BACKENDS`; `single` takes one network.
        networks: of one architecture, on one device; from now on they look into the pack's tensors.
        shape: channels, height and width of an image.

    Raises:
        UnfitError: the backend can't express the network, or computes something else.
    """
    if backend != "single":
        _check(backend, networks[0], shape, members=min(2, len(networks)))
    return BACKENDS[backend](networks)


def _check(backend: str, network: nn.Module, shape: tuple[int, int, int], members: int) -> None:
    """Disturbed copies in float64 must give on random images, in train and in eval mode, what each gives alone."""
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(members, 3, *shape, generator=generator, dtype=torch.float64).to(device)
    alone = [disturbed(network, seed) for seed in range(members)]
    try:
        together = BACKENDS[backend]([copy.deepcopy(each) for each in alone])
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            agree = all(_alike(together, alone, images, training) for training in (True, False))
    except UnfitError as error:
        raise UnfitError(f"backend {backend} does not fit {type(network).__name__}: {error}.") from None
    except Exception as error:  # the network is the user's: it may fail in any manner
        raise UnfitError(f"backend {backend} does not fit {type(network).__name__}: {reason(error)}.") from error
    if not agree:
        raise UnfitError(f"backend {backend} computes something else than {type(network).__name__} alone.")


def _alike(together: Pack, alone: Sequence[nn.Module], images: Tensor, training: bool) -> bool:
    """Whether logits and running statistics agree after a pass over the images."""
    together.train(training)
    wanted = torch.stack([each.train(training)(own) for each, own in zip(alone, images, strict=True)])
    found = together.forward(images)[0]
    buffers = [
        (buffer, dict(network.named_buffers())[name])
        for network, each in zip(together.networks, alone, strict=True)
        for name, buffer in each.named_buffers()
    ]
    pairs = [(wanted, found), *buffers]
    return all(torch.allclose(one, other, rtol=1e-9, atol=1e-9) for one, other in pairs)
