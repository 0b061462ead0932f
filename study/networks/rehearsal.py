"""Try a network of the user's before any training, as it will be used: in both modes, on real images, and repeatedly.

What can go wrong with a network later on is to be said at once and in one sentence, and what would go wrong in silence
is to be said at all: logits that chance or the other images of a batch change, norms that no arm replaces, weights that
no seed governs, and what a network keeps where no checkpoint looks.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Timer

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from study import seeds
from study.errors import BadInputError
from study.imports import reason
from study.networks.norms import batch_norms
from study.networks.probes import perturb

IMAGES = 16
"""How many images at most are shown to the network at once."""
PIECES = (1, 2, 5)
"""The batches in which the first images are seen in eval mode, beside all of them in one."""
CLOSE = {torch.float64: 1e-5, torch.float32: 1e-3}
"""Up to which share of the largest logit a difference is one of rounding."""

LONG_S = 60.0
"""After how long it is said that a network is still being tried."""

SEEDED = "have its factory draw from the global generators of torch, NumPy or random, which are seeded"
"""What is to be done about a network that differs each time."""

Call = tuple[str, Tensor | None, Tensor]
"""A layer's name, what it was given and what it returned."""


def rehearse(
    architecture: str,
    norm: str,
    make: Callable[[], nn.Module],
    images: Tensor,
    labels: Tensor,
    classes: int,
    batch_size: int,
) -> None:
    """Refuse a network that can't be trained and measured as the study does it.

    Args:
        architecture: its name.
        norm: the norm that it was given.
        make: builds the network anew with the initial weights of one seed.
        images: float32 [N, C, H, W], real ones.
        labels: int64 [N].
        classes: the number of logits.
        batch_size: how many images a training step takes.

    Raises:
        BadInputError: the network is unfit.
    """
    what = f"architecture={architecture} with norm={norm}"
    with _saying_what_lasts(what):
        began, network = int(time.time()), make()
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise BadInputError(f"{what} has no trainable parameters: leave requires_grad as it is.")
        _check_weights(what, network, again := make())
        _check_eval_mode(what, _measured(make, images), images[: sum(PIECES)], classes)
        _check_logits(what, norm, network, again, images)
        _check_training(what, norm, make, images[: max(2, batch_size)], labels, classes)
        _check_state(what, make, images[: max(2, batch_size)], labels, classes)
        _check_norms(what, make, images[: max(2, batch_size)], classes)
        _check_weights(what, network, later := _make_later(make, began))
        _check_logits(what, norm, network, later, images)


@contextmanager
def _saying_what_lasts(what: str) -> Iterator[None]:
    """Say what is being tried where that takes long: a network that never ends would hold up a launch in silence."""
    message = f"{what} has been tried for {LONG_S:g} s before any training; if it never ends, stop it by Ctrl-C."
    timer = Timer(LONG_S, lambda: print(message, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _check_eval_mode(what: str, network: nn.Module, images: Tensor, classes: int) -> None:
    """Refuse a network whose logits of an image, in eval mode, depend on chance or on the other images of its batch."""
    network.eval()
    images = images.to(next(network.parameters()).dtype)
    with torch.no_grad(), seeds.torch_stream(0, "rehearsal"):
        logits, calls = _pass(what, network, images, classes)
        if (logits >= 0).all() and _close(logits.sum(dim=1), torch.ones_like(logits[:, 0])):
            raise BadInputError(f"{what} gives probabilities, not logits: leave out the softmax at its end.")
        again, repeated = _pass(what, network, images, classes)
        if not _close(again, logits):
            where = _first_difference(calls, repeated, slice(None), len(images))
            raise BadInputError(
                f"{what} gives an image other logits each time in eval mode{where}: "
                "have it draw random numbers in train mode alone."
            )
        first = 0
        for size in (size for size in PIECES if first + size <= len(images)):
            rows = slice(first, first + size)
            piece, of_piece = _pass(what, network, images[rows], classes)
            if not _close(piece, logits[rows], logits.abs().max()):
                where = _first_difference(calls, of_piece, rows, len(images))
                raise BadInputError(
                    f"{what} gives an image other logits beside other images in eval mode{where}: {_remedy(network)}."
                )
            first += size


def _remedy(network: nn.Module) -> str:
    """Return what to do about a network that mixes the images of a batch, a batch norm among the reasons if one is."""
    for name, layer in batch_norms(network):
        if layer.running_mean is None:
            return (
                f"layer {name!r} has no running statistics and normalizes over the batch in eval mode too, "
                "so build it with track_running_stats=True"
            )
    return "have it compute each image by itself"


def _check_training(
    what: str, norm: str, make: Callable[[], nn.Module], images: Tensor, labels: Tensor, classes: int
) -> None:
    """Refuse a network that no step can be taken with, or of which two steps from one seed differ."""
    for size in sorted({len(images), max(2, len(images) - 3)}, reverse=True):
        steps = [_step(what, make().train(), images[:size], labels[:size], classes) for _ in range(2)]
        (logits, gradients, calls), (again, others, repeated) = steps
        if not _close(again, logits) or not all(map(_close, gradients, others)):
            where = _first_difference(calls, repeated, slice(None), size)
            raise BadInputError(
                f"{what} takes another step each time from the same weights and seed{where}: have it draw from the "
                "global generators of torch, NumPy or random."
            )
        _check_finite(what, norm, logits, " in train mode")


def _check_norms(what: str, make: Callable[[], nn.Module], images: Tensor, classes: int) -> None:
    """Refuse a network that mixes the images of a batch in train mode, its batch norms aside, which arms replace."""
    others, passes = torch.cat([images[:1], 1 - images[1:]]), []
    for shown in (images, others):  # chance is the same in both
        network = make().train()
        for _, layer in batch_norms(network):
            layer.eval()
        with torch.no_grad(), seeds.torch_stream(0, "rehearsal"):
            passes.append(_pass(what, network, shown, classes))
    (logits, calls), (beside, other_calls) = passes
    if not _close(beside[:1], logits[:1], logits.abs().max()):
        first = slice(0, 1)
        own = [
            (name, None if given is None else _rows(given, first, len(images)), _rows(output, first, len(images)))
            for name, given, output in other_calls
        ]
        where = _first_difference(calls, own, first, len(images))
        raise BadInputError(
            f"{what} mixes the images of a batch in train mode by more than torch's batch norms{where}, which would be "
            "there in every arm: use BatchNorm1d, BatchNorm2d or BatchNorm3d, as layers of the network."
        )


def _check_state(what: str, make: Callable[[], nn.Module], images: Tensor, labels: Tensor, classes: int) -> None:
    """Refuse a network that keeps of a training step what is neither among its parameters nor among its buffers."""
    network = make().train()
    _step(what, network, images, labels[: len(images)], classes)
    restored, fault = make(), ""
    try:
        restored.load_state_dict(network.state_dict())
    except RuntimeError as error:
        fault = f" ({reason(error)})"
    with torch.no_grad(), seeds.torch_stream(0, "rehearsal"):
        logits, calls = _pass(what, network.eval(), images, classes)
        again, repeated = _pass(what, restored.eval(), images, classes)
    if fault or not _close(again, logits):
        where = _first_difference(calls, repeated, slice(None), len(images))
        raise BadInputError(
            f"{what} keeps of a training step what its state_dict lacks{where}{fault}, so that it would be lost or "
            "shared by members that are trained side by side: register it as a buffer, and change it in place."
        )


def _step(
    what: str, network: nn.Module, images: Tensor, labels: Tensor, classes: int
) -> tuple[Tensor, list[Tensor], list[Call]]:
    """Return the logits, the gradients and the layers' calls of a forward and backward pass in train mode."""
    with seeds.torch_stream(0, "rehearsal"), torch.enable_grad():
        logits, calls = _pass(what, network, images, classes)
        if not logits.requires_grad:
            raise BadInputError(f"{what} gives logits without a gradient in train mode: leave out detach and no_grad.")
        try:
            F.cross_entropy(logits, labels).backward()
        except Exception as error:
            raise BadInputError(f"{what} fails in its backward pass: {reason(error)}.") from error
    return logits.detach(), [each.grad for each in network.parameters() if each.grad is not None], calls


def _pass(what: str, network: nn.Module, images: Tensor, classes: int) -> tuple[Tensor, list[Call]]:
    """Return the logits of a batch, and what each innermost layer did, or refuse what is no batch of logits."""
    mode, size = "train" if network.training else "eval", "x".join(map(str, images.shape[1:]))
    of_batch = f"{len(images)} {size} image{'s' * (len(images) > 1)} in {mode} mode"
    shown = images.clone()
    try:
        with _calls(network) as calls:
            logits = network(shown)
    except (Exception, SystemExit) as error:  # the network is the user's: it may fail in any manner
        raise BadInputError(f"{what} fails on {of_batch}: {reason(error)}.") from error
    actual = list(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
    if actual != [len(images), classes]:
        raise BadInputError(
            f"{what} must give logits of shape [{len(images)}, {classes}] for {of_batch}, not {actual}."
        )
    if logits.dtype not in CLOSE:
        kind = str(logits.dtype).removeprefix("torch.")
        raise BadInputError(f"{what} gives logits of {kind} for {of_batch}: have it return float32.")
    if not torch.equal(shown, images):
        raise BadInputError(f"{what} changes the images that it is given in {mode} mode: have it work on a clone.")
    return logits, calls


def _check_weights(what: str, one: nn.Module, other: nn.Module) -> None:
    """Refuse a network that starts from other weights where it is built again from one seed, or shares them."""
    kept = {id(part) for part in (*one.parameters(), *one.buffers())}
    parts = (*other.named_parameters(), *(named for named in other.named_buffers() if _is_updated(other, named[0])))
    for name, part in parts:
        if id(part) in kept:
            raise BadInputError(f"{what} has the same {name!r} in each network: have its factory make new layers.")
    drawn, again = (dict((*each.named_parameters(), *each.named_buffers())) for each in (one, other))
    different = [name for name in drawn.keys() | again.keys() if not _same(drawn.get(name), again.get(name))]
    if different:
        raise BadInputError(f"{what} starts from another {min(different)!r} each time that it is built: {SEEDED}.")


def starts_alike(one: nn.Module, other: nn.Module) -> bool:
    """Return whether two networks start from the same trainable weights."""
    weights = [dict(each.named_parameters()) for each in (one, other)]
    return all(_same(part, weights[1].get(name)) for name, part in weights[0].items() if part.requires_grad)


def _check_logits(what: str, norm: str, one: nn.Module, other: nn.Module, images: Tensor) -> None:
    """Refuse a network that is another one where it is built again from one seed, or that has no finite logits."""
    with torch.no_grad():
        logits = one.eval()(images)
        if not _close(logits, other.eval()(images)):
            raise BadInputError(f"{what} is another network each time that it is built: {SEEDED}.")
    _check_finite(what, norm, logits, "")


def _check_finite(what: str, norm: str, logits: Tensor, where: str) -> None:
    # Without norms the logits of a deep network may overflow: that it diverges is an outcome.
    if norm in ("batch", "layer") and not logits.isfinite().all():
        raise BadInputError(
            f"{what} gives logits that are not finite{where} before any training: check what it divides by."
        )


def _is_updated(network: nn.Module, buffer: str) -> bool:
    """Return whether a buffer is one of a norm, which each step of training changes."""
    return any(buffer.startswith(f"{name}.") for name, _ in batch_norms(network))


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None or one.shape != other.shape:
        return False
    return torch.allclose(one.double(), other.double(), rtol=0.0, atol=0.0, equal_nan=True)


def _make_later(make: Callable[[], nn.Module], began: int) -> nn.Module:
    """Build the network in another second than the first time: weights may be seeded by the clock."""
    while int(time.time()) == began:
        time.sleep(0.02)
    return make()


def _measured(make: Callable[[], nn.Module], images: Tensor) -> nn.Module:
    """Return a network to be measured, with disturbed weights, so that no zero hides a branch; in float64 if it can."""
    network = perturb(make().double())
    try:
        with torch.no_grad():
            network.eval()(images[:2].double())
    except (Exception, SystemExit):  # a network may compute in float32 alone
        return perturb(make())
    return network


def _close(one: Tensor, other: Tensor, scale: Tensor | None = None) -> bool:
    """Return whether two tensors are equal up to rounding."""
    if one.shape != other.shape:
        return False
    values = other if scale is None else scale
    largest = float(values.nan_to_num(0, 0, 0).abs().max()) if values.numel() else 0.0
    share = CLOSE.get(other.dtype, 0.0)
    return torch.allclose(one.double(), other.double(), rtol=0.0, atol=share * largest, equal_nan=True)


@contextmanager
def _calls(network: nn.Module) -> Iterator[list[Call]]:
    """Note within the context what each innermost layer is given and returns, in the order of their calls."""
    calls: list[Call] = []

    def note(name: str, _: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        # What is changed in place later on must be kept as it was.
        kept = [each.detach().clone() if isinstance(each, Tensor) else None for each in (*inputs[:1], output)]
        if kept[-1] is not None:
            calls.append((name, kept[0] if inputs else None, kept[-1]))

    layers = [(name, layer) for name, layer in network.named_modules() if name and not any(layer.children())]
    hooks = [layer.register_forward_hook(partial(note, name)) for name, layer in layers]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _first_difference(whole: Sequence[Call], part: Sequence[Call], rows: slice, images: int) -> str:
    """Return in words where two passes first differ, the second one over some rows of the first one's images."""
    for (name, given, output), (other_name, other_given, other_output) in zip(whole, part, strict=False):
        if name != other_name:
            break
        if _rows_differ(given, other_given, rows, images):
            return f", from before layer {name!r} on"
        if _rows_differ(output, other_output, rows, images):
            return f", from layer {name!r} on"
    return ""


def _rows(whole: Tensor, rows: slice, images: int) -> Tensor:
    """Return what of a layer's input or output belongs to some of the images; all of it if it has no row for each."""
    if not whole.ndim or len(whole) % images:
        return whole
    each = len(whole) // images
    return whole[slice(rows.start * each, rows.stop * each) if rows.stop is not None else rows]


def _rows_differ(whole: Tensor | None, part: Tensor | None, rows: slice, images: int) -> bool:
    """Return whether a part is other than those rows of the whole; what has no row for each image is left out."""
    if whole is None or part is None or not whole.ndim or not whole.is_floating_point() or len(whole) % images:
        return False
    own = _rows(whole, rows, images)
    return own.shape == part.shape and not _close(part, own, whole.abs().max())
