"""A pack: networks of one architecture that train side by side on one device, each as it would alone.

A backend that packs several members holds their parameters and running statistics side by side in joint tensors. The
parameters and buffers of the members' own networks are views into these, so nothing has to be copied back after
training.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from study.engine.cpu.whole_steps import WholeSteps
from study.errors import BadInputError
from study.networks.regularizers import watch_penalty


class UnfitError(BadInputError):
    """The backend can't express this network; the message says which layer and why."""


class Pack(ABC):
    """M networks behind one forward pass.

    Attributes:
        networks: the members' own networks, in order.
        parameters: the trained tensors of the whole pack.
        diverged: the members that have diverged, by position, each with its reason in words.
    """

    _network: nn.Module
    """What the forward pass calls."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self.networks = tuple(networks)
        self.parameters: list[nn.Parameter] = []
        self.diverged: dict[int, str] = {}
        self._views: dict[nn.Parameter, list[nn.Parameter]] = {}
        self._already_joined: set[nn.Parameter] = set()

    def __len__(self) -> int:
        return len(self.networks)

    @property
    def alive(self) -> list[int]:
        """The positions of the members that have not diverged."""
        return [member for member in range(len(self)) if member not in self.diverged]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters, and so of images and logits."""
        return self.parameters[0].dtype

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self.parameters[0].device

    @property
    def training(self) -> bool:
        """Whether a layer that the forward pass calls is in train mode."""
        return any(layer.training for layer in self._network.modules())

    @property
    def joint_network(self) -> nn.Module | None:
        """The network whose layers each compute all members at once, their channels side by side: [B, M * C, ...].

        None for a backend whose layers are never called for all members at once.
        """
        return None

    @abstractmethod
    def forward(self, images: Tensor, regularizer: str = "none") -> tuple[Tensor, Tensor]:
        """Return the logits [M, B, classes] of each member for its own images [M, B, C, H, W], and its penalty [M]."""

    @abstractmethod
    def train(self, mode: bool = True) -> None:
        """Put all members into train mode, or into eval mode."""

    @contextmanager
    def descending(self, rate: float, decay: float) -> Iterator[None]:  # noqa: ARG002
        """Have a forward pass within the context lead to a backward pass that itself takes steps of gradient descent.

        A parameter either loses its gradient times `rate` and itself times `rate * decay`, and gets no gradient, or
        gets its gradient and nothing else: which it is is the backend's choice.
        """
        yield

    def whole_steps(self) -> WholeSteps | None:
        """Return what takes many steps in one call, of plain gradient descent on the cross-entropy.

        None where the backend has no such thing for the network, or gains nothing by it.
        """
        return None

    def parameters_of(self, member: int) -> list[nn.Parameter]:
        """Return a member's own parameters, with gradients that are views into the joint ones.

        An optimizer can so treat each member by settings of its own. From then on the pack's gradients must be zeroed,
        not set to None.
        """
        for joint, views in self._views.items():
            if joint.grad is None:
                joint.grad = torch.zeros_like(joint)
            gradient = joint.grad.chunk(len(self))[member]
            views[member].grad = gradient.view_as(views[member])
        return [views[member] for views in self._views.values()]

    def own(self, parameter: nn.Parameter) -> nn.Parameter:
        """Return the parameter of the first member's own network that a joint one has a part of."""
        return self._views.get(parameter, [parameter])[0]

    def _join(self, parameters: Sequence[nn.Parameter], values: Tensor) -> nn.Parameter:
        """Make M parameters views into a joint one, and return that.

        Args:
            parameters: the same parameter of each member.
            values: their values, one member after the other along the first dimension.

        Raises:
            UnfitError: the parameter was joined before, for another layer.
        """
        if parameters[0] in self._already_joined:
            raise UnfitError("two of its layers share a parameter")
        self._already_joined.add(parameters[0])
        joint = nn.Parameter(values, requires_grad=parameters[0].requires_grad)
        for parameter, view in zip(parameters, values.chunk(len(self)), strict=True):
            parameter.data = view.view_as(parameter)
        if joint.requires_grad:
            self._views[joint] = list(parameters)
            self.parameters.append(joint)
        return joint


class Single(Pack):
    """One network as its author wrote it: the reference that the other backends must equal."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__(networks)
        (self._network,) = self.networks
        self.parameters = [parameter for parameter in self._network.parameters() if parameter.requires_grad]

    @property
    def joint_network(self) -> nn.Module:
        """See `Pack.joint_network`."""
        return self._network

    def forward(self, images: Tensor, regularizer: str = "none") -> tuple[Tensor, Tensor]:
        """See `Pack.forward`."""
        with watch_penalty(self._network, regularizer) as penalty:
            logits = self._network(images[0])
            return logits[None], penalty()

    def train(self, mode: bool = True) -> None:
        """See `Pack.train`."""
        self._network.train(mode)
