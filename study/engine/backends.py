"""The three backends behind one interface, and the proof that one fits a network before anything is trained."""

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from study.engine.grouped import Grouped
from study.engine.pack import Pack, Single, UnfitError
from study.engine.vmap import Vmapped
from study.networks.factories import reason
from study.networks.probes import perturbed

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
        _check(backend, networks[:2], shape)
    return BACKENDS[backend](networks)


def _check(backend: str, networks: Sequence[nn.Module], shape: tuple[int, int, int]) -> None:
    """Perturbed copies in float64 must do together what each does alone: forward, backward, and in eval mode."""
    name = type(networks[0]).__name__
    device = next(networks[0].parameters()).device
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(len(networks), 3, *shape, generator=generator, dtype=torch.float64).to(device)
    try:
        alone = [perturbed(network, seed) for seed, network in enumerate(networks)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            together = BACKENDS[backend]([copy.deepcopy(each) for each in alone])
            agree = all(_alike(together, alone, images, training) for training in (True, False))
    except UnfitError as error:
        raise UnfitError(f"backend {backend} does not fit {name}: {error}.") from None
    except Exception as error:  # the network is the user's: it may fail in any manner
        raise UnfitError(f"backend {backend} does not fit {name}: {reason(error)}.") from error
    if not agree:
        raise UnfitError(f"backend {backend} computes something else than {name} alone.")


def _alike(together: Pack, alone: Sequence[nn.Module], images: Tensor, training: bool) -> bool:
    """Whether logits, gradients and running statistics agree after a pass over the images."""
    together.train(training)
    # In eval mode torch's attention takes a path that has no gradient.
    with torch.set_grad_enabled(training):
        found = together.forward(images)[0]
        wanted = torch.stack([each.train(training)(own) for each, own in zip(alone, images, strict=True)])
    if training:
        for logits in (found, wanted):
            logits.square().sum().backward()
    pairs: list[tuple[Tensor, Tensor]] = [(found, wanted)]
    for member, (network, each) in enumerate(zip(together.networks, alone, strict=True)):
        together.parameters_of(member)
        own = dict(network.named_parameters())
        pairs += [
            (own[key].grad, parameter.grad)  # type: ignore[misc]
            for key, parameter in each.named_parameters()
            if parameter.grad is not None
        ]
        buffers = dict(network.named_buffers())
        pairs += [(buffers[key], buffer) for key, buffer in each.named_buffers()]
    return all(torch.allclose(one, other, rtol=1e-8, atol=1e-9) for one, other in pairs)
