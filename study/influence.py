"""The second lens (section 4.2 of the paper): how hard does one training sample pull at the weights?

The measure is the l2 norm of the gradient of the cross-entropy on the assigned label, over all trainable parameters,
of each sample alone, with the network in eval mode. No layer's gradient is ever added up over samples, so the ordinary
backward pass over weights is left out. One forward and one backward pass over a whole chunk give each layer's input and
the gradient at its output, and from these two follows the norm of each sample's weight gradient
(`study.ghost_norms`).

Whether that is exact for a network is tried rather than believed: see `check`. Where it isn't, `torch.func` computes
each sample's whole gradient, which is exact for every network that it can run, and slower.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from study import ghost_norms
from study.attention import plain_attention
from study.data import to_float
from study.errors import BadInputError, DivergedError
from study.factories import reason
from study.probes import perturbed

CPU_CHUNK, GPU_CHUNK = 64, 256
"""Samples in one pass: what stays in a CPU's cache, and a GPU's share of the memory that training takes too."""
WHOLE = 2**26
"""Numbers that whole gradients may take up at once."""

Way = Callable[[nn.Module, Tensor, Tensor], Tensor]


def grad_norms(network: nn.Module, images: Tensor, labels: Tensor, chunk: int | None = None) -> Tensor:
    """The gradient norm of each sample, in eval mode.

    Parameters' `.grad` and `requires_grad` and every layer's training flag are left as they were. The scale of a
    sample's gradient is kept apart, in float64, from its direction, so that a float32 network does not lose the tiny
    gradients of samples that it knows well.

    Args:
        network: as trained; only parameters that require a gradient count.
        images: uint8 [N, C, H, W] on the network's device.
        labels: int64 [N], as assigned, on the same device.
        chunk: how many samples at most go through the network at once, from 1; the norms don't depend on it.

    Returns:
        float64 [N] on the network's device.

    Raises:
        BadInputError: single samples have no gradient in this network, or it can't be had; see `check`.
        DivergedError: a gradient isn't finite.
    """
    if not len(images):
        return torch.zeros(0, dtype=torch.float64, device=images.device)
    dtype = next(network.parameters()).dtype
    chunk = chunk or (CPU_CHUNK if images.device.type == "cpu" else GPU_CHUNK)
    with _evaluated(network), torch.enable_grad():
        way = _exact_way(network, tuple(images.shape[1:]), images.device)
        parts = zip(images.split(chunk), labels.split(chunk), strict=True)
        norms = torch.cat([way(network, to_float(part, dtype), assigned) for part, assigned in parts])
    if not torch.isfinite(norms).all():
        raise DivergedError("a gradient is not finite")
    return norms


def check(network: nn.Module, shape: tuple[int, int, int], classes: int) -> None:
    """Refuse a network whose per-sample gradient norms can't be had exactly, before it is trained.

    A float64 copy with slightly disturbed parameters, so that no branch is switched off by a zero, must give for two
    random images the norms that the plain loop over batches of one gives.

    Args:
        network: on any device; left as it is.
        shape: channels, height and width of an image.
        classes: the number of logits.

    Raises:
        BadInputError: a layer mixes the samples of a batch, or neither hooks nor `torch.func` give the norms.
    """
    parameter = next(network.parameters(), None)
    if parameter is None or not any(parameter.requires_grad for parameter in network.parameters()):
        raise BadInputError(f"{type(network).__name__} has no trainable parameters, so it has no gradient norms.")
    with _evaluated(network), torch.enable_grad():
        _exact_way(network, shape, parameter.device, classes)


def _exact_way(network: nn.Module, shape: tuple[int, ...], device: torch.device, classes: int | None = None) -> Way:
    """The first way that agrees with the plain loop on two random images; the network must be in eval mode."""
    name = type(network).__name__
    for layer_name, layer in network.named_modules():
        if isinstance(layer, _BatchNorm) and layer.running_mean is None:
            raise BadInputError(
                f"layer {layer_name!r} has no running statistics and normalizes over the batch in eval mode too, "
                f"so no sample has a gradient of its own."
            )
    try:
        probe = perturbed(network)
        pixels = torch.randint(0, 256, (2, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        images = to_float(pixels.to(device), torch.float64)
        logits = probe(images).detach()
        # The least likely label: a sample that is fitted already would have no gradient to compare.
        labels = logits.argmin(dim=1)
        alone, wanted = _one_by_one(probe, images, labels)
    except Exception as error:
        raise BadInputError(f"{name} fails on single images in float64: {reason(error)}.") from error
    if classes is not None and logits.shape[1] != classes:
        raise BadInputError(f"{name} has {logits.shape[1]} logits, not {classes}.")
    if not torch.allclose(logits, alone, rtol=1e-6, atol=1e-9, equal_nan=True):
        raise BadInputError(f"{name} mixes the samples of a batch in eval mode, so none has a gradient of its own.")
    return _agreeing(name, probe, images, labels, wanted)


def _agreeing(name: str, probe: nn.Module, images: Tensor, labels: Tensor, wanted: Tensor) -> Way:
    """The first way that finds the wanted norms, or the reasons why there is none."""
    reasons = []
    for way in (_by_layers, _by_vmap):
        try:
            found = way(probe, images, labels)
        except Exception as error:  # the network is the user's: it may fail in any manner
            reasons.append(str(error) if isinstance(error, _UnfitError) else reason(error))
            continue
        if torch.allclose(found, wanted, rtol=1e-6, atol=0, equal_nan=True):
            return way
        reasons.append("the norms are not those of batches of one")
    raise BadInputError(
        f"exact gradient norms of single samples can't be had from {name}: {reasons[0]}; with torch.func: {reasons[1]}."
    )


def _one_by_one(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The definition: logits and gradient norms by batches of one. Slow."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    logits, norms = [], []
    for image, label in zip(images.split(1), labels.split(1), strict=True):
        logits.append(network(image))
        gradients = torch.autograd.grad(F.cross_entropy(logits[-1], label), parameters, allow_unused=True)
        squares = [gradient.square().sum() for gradient in gradients if gradient is not None]
        norms.append(torch.stack(squares).sum().sqrt())
    return torch.cat(logits).detach(), torch.stack(norms)


@contextmanager
def _evaluated(network: nn.Module) -> Iterator[None]:
    """Eval mode, and afterwards the training flag that each layer had."""
    flags = {layer: layer.training for layer in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for layer, flag in flags.items():
            layer.training = flag


def _logit_gradient(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The cross-entropy's gradient at the logits as a direction, of the logits' dtype, and a length in float64.

    The label's own entry is minus the sum of the others: 1 - p would be zero for a sample that is known well.

    Args:
        logits: [..., classes].
        labels: [...].
    """
    own = labels[..., None] == torch.arange(logits.shape[-1], device=logits.device)
    others = logits.double().softmax(dim=-1).masked_fill(own, 0)
    gradient = torch.where(own, -others.sum(dim=-1, keepdim=True), others)
    length = torch.linalg.vector_norm(gradient, dim=-1)
    # Where the length is zero the direction is zero too, whatever it is divided by.
    return (gradient / length.clamp(min=1e-300)[..., None]).to(logits.dtype), length


# The whole network at once ------------------------------------------------------------------------------------------


def _by_vmap(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Norms [N] from each sample's whole gradient, with as many samples at once as the memory for them allows."""
    parameters = {name: value.detach() for name, value in network.named_parameters() if value.requires_grad}

    def along(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        logits = functional_call(network, parameters, (image[None],))[0]
        direction, length = _logit_gradient(logits.detach(), label)
        return (logits * direction).sum(), length

    each = vmap(grad(along, has_aux=True), in_dims=(None, 0, 0))
    samples = max(1, WHOLE // sum(value.numel() for value in parameters.values()))
    norms = []
    with plain_attention():
        for image, label in zip(images.split(samples), labels.split(samples), strict=True):
            gradients, length = each(parameters, image, label)
            squares = [gradient.flatten(1).square().sum(dim=1).double() for gradient in gradients.values()]
            norms.append(torch.stack(squares).sum(dim=0).sqrt() * length)
    return torch.cat(norms)


# Layer by layer -----------------------------------------------------------------------------------------------------


class _UnfitError(BadInputError):
    """Hooks on the layers don't see all of this network's gradient; the message says where and why."""


@dataclass(frozen=True)
class _Layer:
    """A module with parameters, its name, and the names of those of its own parameters that are trained."""

    module: nn.Module
    name: str
    own: frozenset[str]


def _layers(network: nn.Module) -> list[_Layer]:
    """The network's layers with trainable parameters.

    Raises:
        _UnfitError: a parameter belongs to a module that has layers within, or to two modules.
    """
    layers: list[_Layer] = []
    owners: dict[nn.Parameter, str] = {}
    for name, module in network.named_modules():
        named = module.named_parameters(recurse=False, remove_duplicate=False)
        own = {key: parameter for key, parameter in named if parameter.requires_grad}
        if own and any(module.children()):
            where = f"layer {name!r}" if name else f"{type(module).__name__} itself"
            raise _UnfitError(f"{where} has parameters of its own beside the layers within it")
        for parameter in own.values():
            if parameter in owners:
                raise _UnfitError(f"layer {name!r} shares a parameter with layer {owners[parameter]!r}")
            owners[parameter] = name
        if own:
            layers.append(_Layer(module, name, frozenset(own)))
    return layers


def _by_layers(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Norms [N] from one forward and one backward pass with hooks on each layer's output.

    Raises:
        _UnfitError: a layer's gradient can't be told from its input and the gradient at its output.
    """
    layers = _layers(network)
    squares = torch.zeros(len(images), dtype=torch.float64, device=images.device)
    with _frozen(network):
        with _tapped(layers, squares) as unseen:
            logits = network(images)
        direction, length = _logit_gradient(logits.detach(), labels)
        logits.backward(direction)
    if unseen:
        raise _UnfitError(
            f"no gradient comes to the output of layer {min(unseen)!r}, though its parameters may be used"
        )
    return squares.sqrt() * length


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """No parameter requires a gradient, so that the backward pass computes none and leaves every `.grad` alone."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def _tapped(layers: list[_Layer], squares: Tensor) -> Iterator[set[str]]:
    """A forward pass within will, on its backward pass, add each layer's squared gradient norms to `squares`.

    Gives the names of the layers to which no gradient has come yet.
    """
    unseen = {layer.name for layer in layers}
    called: set[str] = set()

    def tap(layer: _Layer, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Tensor:
        if layer.name in called:
            raise _UnfitError(f"layer {layer.name!r} is called more than once")
        called.add(layer.name)
        given = _sample_first(layer, inputs, output, len(squares))
        version = given._version

        def add(gradient: Tensor) -> None:
            if given._version != version:
                raise _UnfitError(f"what layer {layer.name!r} takes is changed in place after it")
            unseen.discard(layer.name)
            squares.add_(ghost_norms.squares(module, layer.own, given, gradient))

        opened = _open(output)
        opened.register_hook(add)
        return opened

    hooks = [layer.module.register_forward_hook(partial(tap, layer)) for layer in layers]
    try:
        yield unseen
    finally:
        for hook in hooks:
            hook.remove()


def _open(output: Tensor) -> Tensor:
    """The output as a tensor that a hook can be put on, whatever the network does with it next."""
    # Work in place on a view rewrites the history of its base, and the view's hook would never be called.
    output = output.clone() if output._is_view() else output
    if output.requires_grad:
        return output
    anchored: Tensor = _Anchor.apply(output, torch.zeros((), requires_grad=True))
    return anchored


def _sample_first(layer: _Layer, inputs: tuple[Any, ...], output: Any, samples: int) -> Tensor:
    """What the layer took, cut off from the graph, if it maps one tensor to one tensor, sample by sample."""
    tensors = [*inputs, output]
    if len(tensors) != 2 or not all(isinstance(tensor, Tensor) for tensor in tensors):
        raise _UnfitError(f"layer {layer.name!r} does not map one tensor to one tensor")
    if any(tensor.ndim == 0 or len(tensor) != samples for tensor in tensors):
        raise _UnfitError(f"the tensors of layer {layer.name!r} don't have the samples in their first dimension")
    given: Tensor = inputs[0].detach()
    return given


class _Anchor(torch.autograd.Function):
    """The same tensor, now requiring a gradient: where the backward pass ends, before the first layer.

    A leaf would do, were it not that the next layer may work in place, which a leaf forbids.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, anchor: Tensor) -> Tensor:  # noqa: ARG004
        ctx.mark_dirty(output)
        return output

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[None, None]:  # noqa: ARG004
        return None, None
