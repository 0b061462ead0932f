"""A pack: networks of one architecture that train side by side on one device, each as if it were alone.

A backend that packs holds its members' parameters and running statistics side by side in tensors of its own, and the
members' own networks look into them: what it has trained is at once what each network is, with nothing to copy back.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from study.errors import BadInputError
from study.networks.regularizers import penalized


class UnfitError(BadInputError):
    """A backend can't express this network; the message says which layer and why."""


class Pack(ABC):
    """M networks behind one forward pass.

    Attributes:
        networks: the members' own networks, in order.
        parameters: the trained tensors of the whole pack.
        diverged: why each member that has left the finite numbers did so, by its position.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self.networks = tuple(networks)
        self.parameters: list[nn.Parameter] = []
        self.diverged: dict[int, str] = {}
        self._own: dict[nn.Parameter, list[nn.Parameter]] = {}
        self._joined_already: set[nn.Parameter] = set()

    def __len__(self) -> int:
        return len(self.networks)

    @property
    def alive(self) -> list[int]:
        """The positions of the members that have not diverged."""
        return [member for member in range(len(self)) if member not in self.diverged]

    @property
    def dtype(self) -> torch.dtype:
        """That of the parameters, and so of images and logits."""
        return self.parameters[0].dtype

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.parameters[0].device

    @property
    def together(self) -> nn.Module | None:
        """The network whose layers each compute all members, their channels side by side: [B, M * C, ...].

        None where no layer is ever called for all of them.
        """
        return None

    @abstractmethod
    def forward(self, images: Tensor, regularizer: str = "none") -> tuple[Tensor, Tensor]:
        """Logits [M, B, classes] of each member for its own images [M, B, C, H, W], and its penalty [M]."""

    @abstractmethod
    def train(self, mode: bool = True) -> None:
        """Put all members into train mode, or into eval mode."""

    def parameters_of(self, member: int) -> list[nn.Parameter]:
        """The member's own parameters with gradients that are views into the pack's, for settings of its own.

        The pack's gradients must be zeroed, not dropped, from then on.
        """
        for joined, own in self._own.items():
            if joined.grad is None:
                joined.grad = torch.zeros_like(joined)
            view = joined.grad.chunk(len(self))[member]
            own[member].grad = view.view_as(own[member])
        return [own[member] for own in self._own.values()]

    def _join(self, own: Sequence[nn.Parameter], joined: Tensor) -> nn.Parameter:
        """The values of M parameters, one after the other in `joined`, as one parameter that the M look into."""
        if own[0] in self._joined_already:
            raise UnfitError("two of its layers share a parameter")
        self._joined_already.add(own[0])
        parameter = nn.Parameter(joined, requires_grad=own[0].requires_grad)
        for one, view in zip(own, joined.chunk(len(self)), strict=True):
            one.data = view.view_as(one)
        if parameter.requires_grad:
            self._own[parameter] = list(own)
            self.parameters.append(parameter)
        return parameter


class Single(Pack):
    """One network as its author wrote it: the plain loop that the other backends are held against."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__(networks)
        (self._network,) = self.networks
        self.parameters = [parameter for parameter in self._network.parameters() if parameter.requires_grad]

    @property
    def together(self) -> nn.Module:
        """See `Pack.together`."""
        return self._network

    def forward(self, images: Tensor, regularizer: str = "none") -> tuple[Tensor, Tensor]:
        """See `Pack.forward`."""
        with penalized(self._network, regularizer) as penalty:
            logits = self._network(images[0])
            return logits[None], penalty()

    def train(self, mode: bool = True) -> None:
        """See `Pack.train`."""
        self._network.train(mode)
