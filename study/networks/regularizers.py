"""The penalty on gamma/sigma that the paper proposes against memorization (section 6, Eq. 12)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from study.errors import BadInputError
from study.networks.norms import BatchNorm, batch_norms

LOG_FLOOR = 1e-4
"""Where `log` stops: below this value of (gamma/sigma)^2 the penalty is constant. As written it has no lower bound."""


def check(kind: str, architecture: str, network: nn.Module) -> None:
    """Refuse a network with a batch norm that has no gamma.

    Raises:
        BadInputError: it is such a network.
    """
    for name, layer in batch_norms(network):
        if not layer.affine:
            raise BadInputError(
                f"regularizer={kind} needs a gamma, which batch norm {name!r} of architecture={architecture} lacks "
                f"(affine=False)."
            )


@contextmanager
def penalized(network: nn.Module, kind: str, members: int = 1) -> Iterator[Callable[[], Tensor]]:
    """A function that gives the penalty [members] of the network's last forward pass in train mode.

    The penalty is the sum over batch norms of the mean over channels of

    - `log`: log (gamma/sigma)^2, as Eq. 12 is written, but never below log `LOG_FLOOR`;
    - `hinge`: the same where the ratio is above 1 and zero elsewhere, which is what section 5 asks for.

    sigma^2 is the batch's own biased variance plus epsilon, the one that the forward pass divides by, and gradients
    flow through it.

    Args:
        network: a network with affine batch norms.
        kind: `none`, `log` or `hinge`; `none` watches nothing and gives 0.
        members: how many networks stand side by side in the channels of this one, each with a penalty of its own.
    """
    terms: dict[BatchNorm, Tensor] = {}
    if kind == "none":
        device = next(network.parameters()).device
        yield lambda: torch.zeros(members, device=device)
        return

    def watch(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, BatchNorm)
        if layer.training:
            variance = inputs[0].transpose(0, 1).flatten(1).var(dim=1, unbiased=False)
            ratio = layer.weight.square() / (variance + layer.eps)
            terms[layer] = _term(kind, ratio.unflatten(0, (members, -1)))

    hooks = [layer.register_forward_pre_hook(watch) for _, layer in batch_norms(network)]
    try:
        yield lambda: torch.stack(list(terms.values())).sum(dim=0)
    finally:
        for hook in hooks:
            hook.remove()


def _term(kind: str, squared_ratio: Tensor) -> Tensor:
    floor = LOG_FLOOR if kind == "log" else 1.0
    return squared_ratio.clamp(min=floor).log().mean(dim=1)
