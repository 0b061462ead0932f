"""The penalty on gamma/sigma that the paper proposes against memorization (section 6, Eq. 12)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from study.errors import BadInputError
from study.networks.norms import BatchNorm, batch_norms, given

LOG_FLOOR = 1e-4
"""The (gamma/sigma)^2 below which the penalty `log` is constant. As Eq. 12 is written it has no lower bound."""


def check(kind: str, architecture: str, network: nn.Module) -> None:
    """Refuse a network that can't be regularized.

    Raises:
        BadInputError: one of its batch norms has no gamma.
    """
    for name, layer in batch_norms(network):
        if layer.weight is None:
            raise BadInputError(
                f"regularizer={kind} needs a gamma, which batch norm {name!r} of architecture={architecture} lacks: "
                "build it with affine=True."
            )


@contextmanager
def watch_penalty(network: nn.Module, kind: str, members: int = 1) -> Iterator[Callable[[], Tensor]]:
    """Watch a network within the context, which gives a function that returns the penalty of its last forward pass.

    The penalty, [members], is the sum over batch norms of the mean over channels of

    - `log`: log (gamma/sigma)^2, as Eq. 12 is written, but never below log `LOG_FLOOR`;
    - `hinge`: the same where the ratio is above 1, and zero elsewhere, which is what section 5 asks for.

    sigma^2 is the batch's own biased variance plus epsilon, by which the forward pass divides, and gradients flow
    through it. Forward passes in eval mode don't count.

    Args:
        network: a network with affine batch norms.
        kind: `none`, `log` or `hinge`; `none` watches nothing and gives 0.
        members: how many networks are side by side in the channels of this one, each with its own penalty.
    """
    terms: dict[BatchNorm, Tensor] = {}
    if kind == "none":
        device = next(network.parameters()).device
        yield lambda: torch.zeros(members, device=device)
        return

    def watch(layer: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        assert isinstance(layer, BatchNorm)
        if layer.training:
            variance = given(inputs, named).transpose(0, 1).flatten(1).var(dim=1, unbiased=False)
            ratio = layer.weight.square() / (variance + layer.eps)
            terms[layer] = _term(kind, ratio.unflatten(0, (members, -1)))

    hooks = [layer.register_forward_pre_hook(watch, with_kwargs=True) for _, layer in batch_norms(network)]
    try:
        yield lambda: torch.stack(list(terms.values())).sum(dim=0)
    finally:
        for hook in hooks:
            hook.remove()


def _term(kind: str, squared_ratio: Tensor) -> Tensor:
    floor = LOG_FLOOR if kind == "log" else 1.0
    return squared_ratio.clamp(min=floor).log().mean(dim=1)
