"""The lens on gradient norms: how hard one training sample pulls at the weights (section 4.2 of the paper).

The measure is the l2 norm of the gradient of the cross-entropy on the assigned label, over all trainable parameters,
of each sample alone, with the network in eval mode. No layer's gradient is ever added up over samples, so the ordinary
backward pass over weights is left out. One forward and one backward pass over a whole chunk give each layer's input and
the gradient at its output, and from these two follows the norm of each sample's weight gradient
(`study.lenses.ghost_norms`).

Whether that is exact for a network is tried rather than believed: see `check_exact`. Where it isn't, `torch.func`
computes each sample's whole gradient, which is slower, and if that isn't exact either, so do batches of one, which are
slower by far.

Members that a pack has side by side in one network go through it together, if that is exact too; any others go alone.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from study.data.corruption import Corrupted
from study.data.dataset import Dataset, to_float
from study.engine.pack import Pack, Single
from study.engine.vmap import plain_attention
from study.errors import BadInputError
from study.imports import reason
from study.lenses import ghost_norms
from study.lenses.trained import Trained
from study.logits import cross_entropy_gradient
from study.networks.probes import perturbed_copy
from study.record.rows import Measurement, Measurements
from study.trial import Trial

CPU_CHUNK, GPU_CHUNK = 64, 256
"""The samples of each member in one pass: the fastest number on a CPU, and what a GPU has memory for in training."""
AT_ONCE = 1024
"""The most samples of all members in one pass, however many members are packed."""
WHOLE = 2**26
"""The most numbers that whole gradients may take up at once."""

Way = Callable[[Pack, Tensor, Tensor], Tensor]
"""A function that returns the norms, float64 [M, N], for images, float [M, N, C, H, W], and labels [M, N]."""


def wanted(trial: Trial) -> bool:
    """Return whether the trial asks for gradient norms."""
    return trial.samples == "gradients"


def check(trial: Trial, network: nn.Module, data: Dataset) -> None:  # noqa: ARG001
    """Refuse a network without exact gradient norms; see `check_exact`."""
    if check_exact(network, data.shape, data.classes) is _by_samples:
        name = type(network).__name__
        print(f"gradient norms of {name} can be had sample by sample alone, which is slow.", file=sys.stderr)


def at_end(trained: Trained) -> Measurements:
    """Measure the gradient norm of each sample, a column of `samples`, and the means over S_out and S_in."""
    corrupted = trained.corrupted
    rows, labels = [each.rows for each in corrupted], [each.labels for each in corrupted]
    norms = grad_norms(trained.pack, corrupted[0].pool, rows, labels)
    return {member: _measurement(norms[member].cpu(), corrupted[member]) for member in trained.pack.alive}


def _measurement(norms: Tensor, corrupted: Corrupted) -> Measurement:
    out, seen = corrupted.atypical.cpu(), corrupted.is_member.cpu()
    means = {"grad_norm_out": _mean(norms[out & seen]), "grad_norm_in": _mean(norms[~out & seen])}
    return Measurement(members=means, samples={"grad_norm": norms})


def _mean(values: Tensor) -> float | None:
    return values.mean().item() if len(values) else None


def grad_norms(
    pack: Pack, images: Tensor, rows: Sequence[Tensor], labels: Sequence[Tensor], chunk: int | None = None
) -> Tensor:
    """Return the gradient norm of each sample in each member, in eval mode.

    Parameters' `.grad` and `requires_grad` and every layer's training flag are left as they were. The scale of a
    sample's gradient is kept apart, in float64, from its direction, so that a float32 network does not lose the tiny
    gradients of samples that it knows well. A member with a gradient that isn't finite is entered in `pack.diverged`.

    Args:
        pack: the members, as trained; only parameters that require a gradient count.
        images: uint8 [P, C, H, W], the pool that all of them see, on the pack's device.
        rows: which images each member's samples are, int64 [N], on the same device.
        labels: int64 [N] of each member, as assigned, on the same device.
        chunk: how many samples of each member at most go through the pack at once, from 1; the norms don't depend on
            it.

    Returns:
        float64 [M, N] on the pack's device; of a member that has diverged, NaN.

    Raises:
        BadInputError: single samples have no gradient in these networks, or it can't be had; see `check_exact`.
    """
    norms = torch.full((len(pack), len(rows[0])), torch.nan, dtype=torch.float64, device=pack.device)
    if not pack.alive or not norms.numel():
        return norms
    of_each = CPU_CHUNK if pack.device.type == "cpu" else GPU_CHUNK
    chunk = chunk or max(1, min(of_each, AT_ONCE // len(pack)))
    with eval_mode(_all_networks(pack)), torch.enable_grad():
        way = _exact_way(pack, tuple(images.shape[1:]))
        seen, assigned = (torch.stack(list(each)).split(chunk, dim=1) for each in (rows, labels))
        for part, own, into in zip(seen, assigned, norms.split(chunk, dim=1), strict=True):
            into.copy_(way(pack, to_float(images[part], pack.dtype), own))
    for member in pack.alive:
        if not torch.isfinite(norms[member]).all():
            pack.diverged[member] = "a gradient is not finite"
    norms[list(pack.diverged)] = torch.nan
    return norms


def check_exact(network: nn.Module, shape: tuple[int, int, int], classes: int) -> Way:
    """Return how a network's per-sample gradient norms are had exactly, or refuse it before it is trained.

    A float64 copy with slightly disturbed parameters, so that no branch is switched off by a zero, must give for two
    random images the norms that the plain loop over batches of one gives.

    Args:
        network: on any device; left as it is.
        shape: channels, height and width of an image.
        classes: the number of logits.

    Raises:
        BadInputError: a layer mixes the samples of a batch, or it has no trainable parameters.
    """
    pack = Single([network])
    if not pack.parameters:
        raise BadInputError(f"{type(network).__name__} has no trainable parameters, so it has no gradient norms.")
    with eval_mode(_all_networks(pack)), torch.enable_grad():
        return _exact_way(pack, shape, classes)


def can_be_vmapped(network: nn.Module, shape: tuple[int, int, int], classes: int) -> bool:
    """Return whether `sample_gradients` are exact for a network: where all else fails, `torch.func` does too."""
    return check_exact(network, shape, classes) is not _by_samples


def _exact_way(pack: Pack, shape: tuple[int, ...], classes: int | None = None) -> Way:
    """Return the first way that agrees with the plain loop on two random images of each of up to two members.

    All networks must be in eval mode.
    """
    members = [pack.networks[member] for member in pack.alive[:2]]
    name = type(members[0]).__name__
    _refuse_batch_statistics(members[0])
    try:
        probes = [perturbed_copy(network, seed) for seed, network in enumerate(members)]
        images = _noise((len(probes), 2, *shape)).to(pack.device)
        logits = torch.stack([probe(own) for probe, own in zip(probes, images, strict=True)]).detach()
        # The least likely label: a sample that is fitted already would have no gradient to compare.
        labels = logits.argmin(dim=-1)
        looped = [_one_by_one(*each) for each in zip(probes, images, labels, strict=True)]
        alone, wanted = (torch.stack(parts) for parts in zip(*looped, strict=True))
    except Exception as error:
        raise BadInputError(f"{name} fails on single images in float64: {reason(error)}.") from error
    if classes is not None and logits.shape[-1] != classes:
        raise BadInputError(f"{name} has {logits.shape[-1]} logits, not {classes}.")
    if not torch.allclose(logits, alone, rtol=1e-6, atol=1e-9, equal_nan=True):
        raise BadInputError(f"{name} mixes the samples of a batch in eval mode, so none has a gradient of its own.")
    together = type(pack)(probes)
    together.train(False)
    return _first_exact_way(together, images, labels, wanted)


def _refuse_batch_statistics(network: nn.Module) -> None:
    for name, layer in network.named_modules():
        if isinstance(layer, _BatchNorm) and layer.running_mean is None:
            raise BadInputError(
                f"layer {name!r} has no running statistics and normalizes over the batch in eval mode too, "
                f"so no sample has a gradient of its own."
            )


def _noise(shape: tuple[int, ...]) -> Tensor:
    """Return random images in float64, the same each time."""
    generator = torch.Generator().manual_seed(0)
    return to_float(torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8), torch.float64)


def _first_exact_way(probe: Pack, images: Tensor, labels: Tensor, wanted: Tensor) -> Way:
    """Return the first way that finds the wanted norms, batches of one if there is no other."""
    for way in (_by_layers, _by_vmap) if isinstance(probe, Single) else (_by_layers, _each_by_layers, _by_vmap):
        try:
            norms = way(probe, images, labels)
        except Exception:  # the network is the user's: it may fail in any manner
            continue
        if torch.allclose(norms, wanted, rtol=1e-6, atol=0, equal_nan=True):
            return way
    return _by_samples


def _one_by_one(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and gradient norms by batches of one: the definition, and slow."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    logits, norms = [], []
    for image, label in zip(images.split(1), labels.split(1), strict=True):
        logits.append(network(image))
        gradients = torch.autograd.grad(F.cross_entropy(logits[-1], label), parameters, allow_unused=True)
        squares = [gradient.square().sum() for gradient in gradients if gradient is not None]
        norms.append(torch.stack(squares).sum().sqrt())
    return torch.cat(logits).detach(), torch.stack(norms)


def _all_networks(pack: Pack) -> list[nn.Module]:
    """Return the members' networks, and the one that computes them all if there is one."""
    return [*pack.networks, *([] if pack.joint_network is None else [pack.joint_network])]


@contextmanager
def eval_mode(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Put networks into eval mode within the context, and afterwards give each layer its training flag back."""
    flags = {layer: layer.training for network in networks for layer in network.modules()}
    for layer in flags:
        layer.training = False
    try:
        yield
    finally:
        for layer, flag in flags.items():
            layer.training = flag


# The whole network at once ------------------------------------------------------------------------------------------


def _by_vmap(pack: Pack, images: Tensor, labels: Tensor) -> Tensor:
    """Return norms [M, N] from whole gradients, one member after the other."""
    return _member_by_member(_from_whole_gradients, pack, images, labels)


def _member_by_member(
    norms_of: Callable[[nn.Module, Tensor, Tensor], Tensor], pack: Pack, images: Tensor, labels: Tensor
) -> Tensor:
    """Return norms [M, N] from those [N] of each member that has not diverged, and NaN for the others."""
    norms = torch.full(labels.shape, torch.nan, dtype=torch.float64, device=labels.device)
    for member in pack.alive:
        norms[member] = norms_of(pack.networks[member], images[member], labels[member])
    return norms


def _from_whole_gradients(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return norms [N] from each sample's whole gradient."""
    parameters = {name: value.detach() for name, value in network.named_parameters() if value.requires_grad}
    norms = []
    for directions, length in sample_gradients(network, parameters, images, labels):
        squares = [direction.flatten(1).square().sum(dim=1).double() for direction in directions.values()]
        norms.append(torch.stack(squares).sum(dim=0).sqrt() * length)
    return torch.cat(norms)


def _by_samples(pack: Pack, images: Tensor, labels: Tensor) -> Tensor:
    """Return norms [M, N] from batches of one, one member after the other."""
    return _member_by_member(_from_single_samples, pack, images, labels)


def _from_single_samples(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return norms [N] from a backward pass for each sample."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    norms = []
    for image, label in zip(images.split(1), labels, strict=True):
        logits = network(image)[0]
        direction, length = cross_entropy_gradient(logits.detach(), label)
        gradients = torch.autograd.grad(logits, parameters, direction, allow_unused=True)
        squares = [gradient.square().sum().double() for gradient in gradients if gradient is not None]
        norms.append(torch.stack(squares).sum().sqrt() * length)
    return torch.stack(norms)


def sample_gradients(
    network: nn.Module, parameters: Mapping[str, Tensor], images: Tensor, labels: Tensor
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Yield each sample's gradient of the cross-entropy in some parameters, in eval mode, some samples at once.

    Args:
        network: left as it is.
        parameters: the parameters by name, detached.
        images: float [N, C, H, W].
        labels: int64 [N].

    Yields:
        For the next n samples, as many as `WHOLE` allows: by parameter a direction [n, *shape], and float64 [n], which
        times the direction is the gradient; see `cross_entropy_gradient`.
    """

    def along(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        logits = functional_call(network, parameters, (image[None],))[0]
        direction, length = cross_entropy_gradient(logits.detach(), label)
        return (logits * direction).sum(), length

    each = vmap(grad(along, has_aux=True), in_dims=(None, 0, 0))
    of_each = CPU_CHUNK if images.device.type == "cpu" else GPU_CHUNK
    samples = max(1, min(of_each, WHOLE // sum(value.numel() for value in parameters.values())))
    with eval_mode([network]), plain_attention(), torch.no_grad():  # of what is outside of `grad`
        for image, label in zip(images.split(samples), labels.split(samples), strict=True):
            directions, length = each(dict(parameters), image, label)
            yield directions, length


# Layer by layer -----------------------------------------------------------------------------------------------------


class _UnfitError(BadInputError):
    """Hooks on the layers don't see all of this network's gradient; the message says where and why."""


@dataclass(frozen=True)
class _Layer:
    """A module with parameters, its name, the names of those of its own that are trained, and the rule for them."""

    module: nn.Module
    name: str
    own: frozenset[str]
    rule: ghost_norms.Rule


def _layers(network: nn.Module, members: int) -> list[_Layer]:
    """Return the layers with trainable parameters of a network, or of several side by side.

    Raises:
        _UnfitError: a parameter belongs to a module that has layers within, or to two modules, or there is no rule.
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
            rule = ghost_norms.rule(module, members)
            if rule is None:
                raise _UnfitError(f"layer {name!r}, a {type(module).__name__}, has no rule for members side by side")
            layers.append(_Layer(module, name, frozenset(own), rule))
    return layers


def _each_by_layers(pack: Pack, images: Tensor, labels: Tensor) -> Tensor:
    """Return norms [M, N] from hooks on layers, one member after the other."""

    def alone(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return _by_layers(Single([network]), images[None], labels[None])[0]

    return _member_by_member(alone, pack, images, labels)


def _by_layers(pack: Pack, images: Tensor, labels: Tensor) -> Tensor:
    """Return norms [M, N] from one forward and one backward pass with hooks on each layer's output.

    Raises:
        _UnfitError: a layer's gradient can't be told from its input and the gradient at its output.
    """
    if pack.joint_network is None:
        raise _UnfitError("no layer computes all members")
    layers = _layers(pack.joint_network, len(pack))
    squares = torch.zeros(labels.T.shape, dtype=torch.float64, device=labels.device)
    with _without_parameter_gradients(pack.joint_network):
        with _hooks(layers, squares) as unseen:
            logits, _ = pack.forward(images)
        direction, length = cross_entropy_gradient(logits.detach(), labels)
        logits.backward(direction)
    if unseen:
        raise _UnfitError(
            f"no gradient comes to the output of layer {min(unseen)!r}, though its parameters may be used"
        )
    return squares.T.sqrt() * length


@contextmanager
def _without_parameter_gradients(network: nn.Module) -> Iterator[None]:
    """Have no parameter require a gradient, so that the backward pass computes none and leaves every `.grad` alone."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@contextmanager
def _hooks(layers: list[_Layer], squares: Tensor) -> Iterator[set[str]]:
    """Hook every layer, so that a backward pass adds its squared gradient norms to `squares`, [N, M].

    Yields the names of the layers to which no gradient has come yet.
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
            squares.add_(layer.rule(module, layer.own, given, gradient, squares.shape[1]))

        hookable = _hookable(output)
        hookable.register_hook(add)
        return hookable

    hooks = [layer.module.register_forward_hook(partial(tap, layer)) for layer in layers]
    try:
        yield unseen
    finally:
        for hook in hooks:
            hook.remove()


def _hookable(output: Tensor) -> Tensor:
    """Return the output as a tensor that a hook can be put on, whatever the network does with it next."""
    # Work in place on a view rewrites the history of its base, and the view's hook would never be called.
    output = output.clone() if output._is_view() else output
    if output.requires_grad:
        return output
    anchored: Tensor = _Anchor.apply(output, torch.zeros((), requires_grad=True))
    return anchored


def _sample_first(layer: _Layer, inputs: tuple[Any, ...], output: Any, samples: int) -> Tensor:
    """Return the layer's input, detached; refuse a layer that doesn't map one tensor to one tensor by sample."""
    tensors = [*inputs, output]
    if len(tensors) != 2 or not all(isinstance(tensor, Tensor) for tensor in tensors):
        raise _UnfitError(f"layer {layer.name!r} does not map one tensor to one tensor")
    if any(tensor.ndim == 0 or len(tensor) != samples for tensor in tensors):
        raise _UnfitError(f"the tensors of layer {layer.name!r} don't have the samples in their first dimension")
    given: Tensor = inputs[0].detach()
    return given


class _Anchor(torch.autograd.Function):
    """The identity, with an output that requires a gradient: the backward pass ends here, before the first layer.

    A leaf would do, were it not that the next layer may work in place, which a leaf forbids.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, anchor: Tensor) -> Tensor:  # noqa: ARG004
        ctx.mark_dirty(output)
        return output

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[None, None]:  # noqa: ARG004
        return None, None
