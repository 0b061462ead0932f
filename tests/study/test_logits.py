import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from study.logits import cross_entropy, cross_entropy_gradient, margin_gradient, margins


def case(scale: float = 1.0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    return scale * torch.randn(3, 20, 6, dtype=torch.float64).to(dtype), torch.randint(0, 6, (3, 20))


def reference(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The loss and its gradient by autograd."""
    logits = logits.clone().requires_grad_()
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    return loss.detach(), gradient


def test_loss_and_gradient_are_those_of_torch_where_these_are_exact():
    logits, labels = case()
    loss, gradient = reference(logits, labels)
    torch.testing.assert_close(cross_entropy(logits, labels), loss)
    direction, length = cross_entropy_gradient(logits, labels)
    torch.testing.assert_close(direction * length[..., None], gradient)
    torch.testing.assert_close(direction.norm(dim=-1), torch.ones_like(length))


@pytest.mark.parametrize("scale", [30.0, 1e3, 1e5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_direction_is_left_of_every_gradient(scale, dtype):
    logits, labels = case(scale, dtype)
    labels = torch.where(torch.rand(3, 20) < 0.5, labels, logits.argmax(dim=-1))
    direction, length = cross_entropy_gradient(logits, labels)
    assert direction.dtype == dtype
    torch.testing.assert_close(direction.norm(dim=-1), torch.ones(3, 20, dtype=dtype))
    # The label's entry is minus the sum of the others.
    torch.testing.assert_close(direction.sum(dim=-1), torch.zeros(3, 20, dtype=dtype), rtol=0, atol=1e-6)
    own = direction.gather(-1, labels[..., None]).squeeze(-1)
    assert torch.equal(own, direction.min(dim=-1).values)
    assert own.max() <= -0.7
    assert length.isfinite().all()


def test_a_loss_that_float32_rounds_to_nothing_is_there():
    logits = torch.tensor([[40.0, 0.0], [700.0, 0.0]])
    labels = torch.zeros(2, dtype=torch.int64)
    assert F.cross_entropy(logits, labels).item() == 0
    torch.testing.assert_close(cross_entropy(logits, labels), torch.exp(torch.tensor([-40.0, -700.0]).double()))
    torch.testing.assert_close(margins(logits, labels), torch.tensor([40.0, 700.0]).double())


def test_the_margin_loss_pulls_at_the_label_and_at_its_strongest_rival():
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 7.0]])
    direction, length = margin_gradient(logits, torch.tensor([0, 2]))
    half = 0.5**0.5
    torch.testing.assert_close(direction, torch.tensor([[-half, 0, half], [0, half, -half]]))
    torch.testing.assert_close(length, torch.full((2,), 2**0.5, dtype=torch.float64))


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("gradient", [margin_gradient, cross_entropy_gradient])
@pytest.mark.parametrize("where", [0, 1])
def test_logits_that_are_not_finite_have_no_direction(wrong, gradient, where):
    logits, labels = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    logits[1, where] = wrong
    direction, _ = gradient(logits, labels)
    assert direction[0].isfinite().all()
    assert not direction[1].isfinite().all()
