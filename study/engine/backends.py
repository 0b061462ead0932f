"""The three backends behind one interface, and the check that a backend fits a network before anything is trained."""

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from study import seeds
from study.engine.grouped import Grouped
from study.engine.pack import Pack, Single, UnfitError
from study.engine.vmap import Vmapped
from study.imports import reason
from study.networks.probes import perturbed_copy

BACKENDS: Mapping[str, Callable[[Sequence[nn.Module]], Pack]] = {
    "single": Single,
    "grouped": Grouped,
    "vmap": Vmapped,
}


FEW, MANY = 3, 24
"""How many images of each network are compared, and how many where over few of them the results differ."""


def pack(backend: str, networks: Sequence[nn.Module], shape: tuple[int, int, int]) -> Pack:
    """Make one pack of the networks, if the backend computes for each of them what it computes alone.

    Args:
        backend: a key of `BACKENDS`; `single` takes one network.
        networks: of one architecture, on one device; their parameters and buffers become views into the pack's.
        shape: channels, height and width of an image.

    Raises:
        UnfitError: the backend can't express the network, or computes something else.
    """
    if backend != "single":
        _check(backend, networks[:2], shape)
    return BACKENDS[backend](networks)


def _check(backend: str, networks: Sequence[nn.Module], shape: tuple[int, int, int]) -> None:
    """Refuse a backend under which perturbed copies in float64 don't compute what each computes alone.

    They are compared in eval mode, and in train mode, forward and backward: over a few images, and if they don't agree,
    over many. Batch norm over three samples doubles any rounding, and in a deep network does so again and again.
    """
    name = type(networks[0]).__name__
    device = next(networks[0].parameters()).device
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(len(networks), MANY, *shape, generator=generator, dtype=torch.float64).to(device)
    try:
        probes = [perturbed_copy(network, seed) for seed, network in enumerate(networks)]
        drawn_before = seeds.global_state()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            agree = _agrees(backend, probes, images[:, :FEW], training=False) and any(
                _agrees(backend, probes, images[:, :count], training=True) for count in (FEW, MANY)
            )
    except UnfitError as error:
        raise UnfitError(f"backend {backend} does not fit {name}: {error}.") from None
    except Exception as error:  # the network is the user's: it may fail in any manner
        raise UnfitError(f"backend {backend} does not fit {name}: {reason(error)}.") from error
    if seeds.global_state() != drawn_before and _draws(probes[0], images[0]):
        raise UnfitError(f"backend {backend} does not fit {name}, which draws random numbers: each member has its own.")
    if not agree:
        raise UnfitError(f"backend {backend} computes something else than {name} alone.")


def _draws(network: nn.Module, images: Tensor) -> bool:
    """Return whether a network draws random numbers in train mode, and not a thread beside this one."""
    before = seeds.global_state()
    with torch.no_grad():
        network.train()(images)
    return seeds.global_state() != before


def _agrees(backend: str, probes: Sequence[nn.Module], images: Tensor, training: bool) -> bool:
    """Whether under a backend the logits, gradients and running statistics of networks are their own, after one pass.

    The networks are left as they are.
    """
    packed = BACKENDS[backend]([copy.deepcopy(probe) for probe in probes])
    separate = [copy.deepcopy(probe) for probe in probes]
    packed.train(training)
    # In eval mode torch's attention takes a path that has no gradient.
    with torch.set_grad_enabled(training):
        logits = packed.forward(images)[0]
        expected = torch.stack(
            [network.train(training)(of_member) for network, of_member in zip(separate, images, strict=True)]
        )
    if training:
        for output in (logits, expected):
            output.square().sum().backward()
    pairs: list[tuple[Tensor, Tensor]] = [(logits, expected)]
    for member, (network, reference) in enumerate(zip(packed.networks, separate, strict=True)):
        packed.parameters_of(member)
        parameters, buffers = dict(network.named_parameters()), dict(network.named_buffers())
        pairs += [
            (parameters[name].grad, parameter.grad)  # type: ignore[misc]
            for name, parameter in reference.named_parameters()
            if parameter.grad is not None
        ]
        pairs += [(buffers[name], buffer) for name, buffer in reference.named_buffers()]
    return all(_is_close(value, wanted) for value, wanted in pairs)


def _is_close(value: Tensor, wanted: Tensor) -> bool:
    """Whether two tensors are equal but for rounding, which goes by the largest number of a tensor."""
    size = max(1.0, wanted.double().abs().max().item()) if wanted.numel() else 1.0
    return torch.allclose(value, wanted, rtol=1e-8, atol=1e-9 * size)
