"""The theory against autograd and gradient descent on the two networks that it is about, in float64."""

from dataclasses import dataclass, replace
from math import ceil, inf, log, sqrt

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from study import theory
from study.errors import BadInputError
from study.theory import Outlier, State

LABELS = st.sampled_from([-1, 1])
MARGINS = st.floats(-10, 10)
RATES = st.floats(1e-3, 1e3)
RATIOS = st.floats(0.1, 10)
WEIGHTS = st.floats(0.1, 3) | st.floats(-3, -0.1)
# Lost beside any variance; torch refuses zero.
NO_EPS = 1e-30


@dataclass(frozen=True)
class Setup:
    """Eq. 3 and 4 with a sample. The classifier's c is left to give the sample the margin that a test wants."""

    x: list[float]
    w: list[float]
    b: float
    mu: float
    sigma: float
    gamma: float
    beta: float
    a: float
    label: int

    @property
    def input_norm(self) -> float:
        return float(np.linalg.norm(self.x))

    @property
    def ratio(self) -> float:
        return self.gamma / self.sigma

    @property
    def deviation(self) -> float:
        return (float(np.dot(self.w, self.x)) + self.b - self.mu) / self.sigma

    def slope(self, norm: bool) -> float:
        return theory.effective_slope(self.a, self.ratio) if norm else theory.effective_slope(self.a)

    def network(self, norm: bool, margin: float | None = None) -> nn.Sequential:
        """In eval mode, so that mu and sigma are fixed; c is 0 if no margin is asked for."""
        layer = nn.BatchNorm1d(1) if norm else nn.Identity()
        network = nn.Sequential(nn.Linear(len(self.x), 1), layer, nn.Linear(1, 1)).double().eval()
        with torch.no_grad():
            network[0].weight.copy_(torch.tensor([self.w], dtype=torch.float64))
            network[0].bias.fill_(self.b)
            network[2].weight.fill_(self.a)
            network[2].bias.zero_()
            if norm:
                layer.running_mean.fill_(self.mu)
                layer.running_var.fill_(self.sigma**2 - layer.eps)
                layer.weight.fill_(self.gamma)
                layer.bias.fill_(self.beta)
            if margin is not None:
                network[2].bias.fill_(self.label * margin - network(self.inputs).item())
        return network

    @property
    def inputs(self) -> Tensor:
        return torch.tensor([self.x], dtype=torch.float64)

    def margin(self, network: nn.Module) -> float:
        return self.label * network(self.inputs).item()

    def descend(self, network: nn.Module, parameters: list[nn.Parameter], lr: float, steps: int = 1) -> None:
        """Plain gradient descent on the sample's loss."""
        for _ in range(steps):
            gradients = torch.autograd.grad(loss_of(network(self.inputs)[:, 0], self.label), parameters)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter -= lr * gradient


@st.composite
def setups(draw: st.DrawFn) -> Setup:
    values = st.floats(-2, 2)
    size = draw(st.integers(1, 3))
    vector = st.lists(values, min_size=size, max_size=size)
    return Setup(
        x=draw(vector.filter(lambda x: np.linalg.norm(x) > 0.1)),
        w=draw(vector),
        b=draw(values),
        mu=draw(values),
        sigma=draw(st.floats(0.2, 5)),
        gamma=draw(WEIGHTS),
        beta=draw(values),
        a=draw(WEIGHTS),
        label=draw(LABELS),
    )


def loss_of(z: Tensor, label: int | Tensor) -> Tensor:
    return F.softplus(-label * z).sum()


def filter_gradient(setup: Setup, norm: bool, margin: float) -> Tensor:
    network = setup.network(norm, margin)
    loss_of(network(setup.inputs)[:, 0], setup.label).backward()
    return network[0].weight.grad


def close(expected: float, scale: float = 1.0) -> object:
    return pytest.approx(expected, rel=1e-9, abs=1e-12 * max(1.0, abs(scale)))


SETUP = Setup(x=[1.5, -2], w=[1, -0.5], b=0.25, mu=0.5, sigma=0.5, gamma=1.5, beta=0.25, a=0.75, label=1)


# Proposition 5.2: one step on the filter


@pytest.mark.parametrize("norm", [False, True])
@settings(max_examples=40)
@given(setup=setups())
def test_the_slope_is_the_logit_s_derivative_in_the_activation(norm, setup):
    _, layer, head = setup.network(norm)
    h = torch.tensor([[0.3]], dtype=torch.float64, requires_grad=True)
    head(layer(h)).sum().backward()
    assert setup.slope(norm) == close(h.grad.item())


@pytest.mark.parametrize("norm", [False, True])
@settings(max_examples=40)
@given(setup=setups(), margin=MARGINS)
def test_the_gradient_norm_is_autograd_s(norm, setup, margin):
    found = theory.gradient_norm(margin, setup.slope(norm), setup.input_norm)
    assert found == close(filter_gradient(setup, norm, margin).norm().item())


@pytest.mark.parametrize("norm", [False, True])
@settings(max_examples=40)
@given(setup=setups(), margin=MARGINS, lr=st.floats(1e-3, 100))
def test_the_margin_grows_as_predicted_in_a_step_of_any_size(norm, setup, margin, lr):
    network = setup.network(norm, margin)
    predicted = theory.margin_growth(margin, setup.slope(norm), setup.input_norm, lr)
    setup.descend(network, [network[0].weight], lr)
    assert setup.margin(network) == close(margin + predicted, scale=network[2].bias.item())


# The limit of Proposition 5.2: statistics that move


def batch(seed: int, size: int, features: int) -> tuple[nn.Sequential, Tensor]:
    """A network with batch norm in train mode, and its inputs; the first of them is label +1's outlier."""
    random = np.random.default_rng(seed)
    inputs = torch.from_numpy(random.normal(size=(size, features)))
    inputs[0] *= 3
    network = nn.Sequential(nn.Linear(features, 1), nn.BatchNorm1d(1), nn.Linear(1, 1)).double().train()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.from_numpy(random.uniform(0.5, 1.5, parameter.shape)))
    return network, inputs


def trained_rows(network: nn.Sequential, inputs: Tensor) -> np.ndarray:
    return theory.inputs_in_training(inputs.numpy(), network[0].weight.detach().numpy()[0], network[1].eps)


def batch_slope(network: nn.Sequential, inputs: Tensor) -> float:
    sigma = (network[0](inputs).var(unbiased=False) + network[1].eps).sqrt()
    return theory.effective_slope(network[2].weight.item(), (network[1].weight / sigma).item())


@settings(max_examples=40)
@given(seed=st.integers(0, 1000), size=st.integers(2, 20), features=st.integers(1, 4))
def test_in_training_every_sample_s_gradient_is_that_of_the_inputs_in_training(seed, size, features):
    network, inputs = batch(seed, size, features)
    rows, slope = trained_rows(network, inputs), batch_slope(network, inputs)
    for sample in range(size):
        network.zero_grad()
        z = network(inputs)[sample, 0]
        loss_of(z, 1).backward()
        expected = -torch.sigmoid(-z).item() * slope * rows[sample]
        assert network[0].weight.grad[0].tolist() == pytest.approx(expected.tolist(), rel=1e-9, abs=1e-11)


def test_in_training_the_growth_is_that_of_the_inputs_in_training_to_first_order():
    errors = []
    for lr in (2e-3, 1e-3, 5e-4):
        network, inputs = batch(seed=0, size=8, features=4)
        row, slope = trained_rows(network, inputs)[0], batch_slope(network, inputs)
        before = network(inputs)[0, 0]
        loss_of(before, 1).backward()
        with torch.no_grad():
            network[0].weight -= lr * network[0].weight.grad
        growth = (network(inputs)[0, 0] - before).item()
        predicted = theory.margin_growth(before.item(), slope, float(np.linalg.norm(row)), lr)
        as_published = theory.margin_growth(before.item(), slope, inputs[0].norm().item(), lr)
        assert growth == pytest.approx(predicted, rel=0.01)
        assert as_published > 1.5 * growth
        errors.append(abs(growth - predicted))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("size", [2, 8, 256])
def test_in_the_paper_s_own_mini_batch_training_gives_the_filter_no_gradient_from_the_outlier(size):
    network, inputs = batch(seed=1, size=size, features=3)
    network[1].eps = NO_EPS
    with torch.no_grad():
        # The typical samples differ, but not in their activation.
        network[0].weight.copy_(torch.tensor([[2.0, 0.0, 0.0]]))
        inputs[:, 0] = torch.tensor([5.0] + [1.0] * (size - 1))
    z = network(inputs)[0, 0]
    loss_of(z, -1).backward()
    fixed = theory.gradient_norm(-z.item(), batch_slope(network, inputs), inputs[0].norm().item())
    assert fixed > 0.5
    assert network[0].weight.grad.norm().item() < 1e-12 * fixed
    assert np.abs(trained_rows(network, inputs)[0]).max() < 1e-12


# Corollary 5.3 and Proposition 5.6: the two models compared


@settings(max_examples=40)
@given(setup=setups(), margin_bn=MARGINS, margin_none=MARGINS)
def test_the_ratios_are_those_of_two_networks(setup, margin_bn, margin_none):
    grown = {}
    for norm, margin in {True: margin_bn, False: margin_none}.items():
        network = setup.network(norm, margin)
        setup.descend(network, [network[0].weight], lr=1 / theory.margin_growth(margin, 1, setup.input_norm, 1))
        # The learning rate that suits the margin is divided out again, and with it what rounding would have lost.
        grown[norm] = (setup.margin(network) - margin) * theory.margin_growth(margin, 1, setup.input_norm, 1)
    norms = {
        norm: filter_gradient(setup, norm, m).norm().item() for norm, m in ((True, margin_bn), (False, margin_none))
    }
    ratio = setup.ratio
    assert theory.growth_ratio(ratio, margin_bn, margin_none) == pytest.approx(grown[True] / grown[False], rel=1e-6)
    assert theory.gradient_norm_ratio(ratio, margin_bn, margin_none) == pytest.approx(norms[True] / norms[False])
    assert theory.influence_ratio(ratio, margin_bn, margin_none) == pytest.approx((norms[True] / norms[False]) ** 2)


@given(ratio=RATIOS, margin=st.floats(-2000, 2000))
def test_at_equal_margins_growth_and_squared_norm_are_amplified_as_predicted_and_the_norm_by_the_root(ratio, margin):
    assert theory.growth_ratio(ratio, margin, margin) == theory.predicted_amplification(ratio) == close(ratio * ratio)
    assert theory.influence_ratio(ratio, margin, margin) == close(ratio * ratio)
    assert theory.gradient_norm_ratio(-ratio, margin, margin) == close(ratio)


def test_equal_parameters_are_not_equal_margins_so_a_ratio_above_1_can_slow_the_outlier_down():
    setup = replace(SETUP, x=[4.5, 0], w=[1, 0], b=0, mu=0.5, sigma=0.5, gamma=1, beta=0, a=1)
    margins = [setup.margin(setup.network(norm)) for norm in (True, False)]
    assert margins == pytest.approx([8, 4.5], rel=1e-4)
    assert setup.ratio == 2
    assert theory.growth_ratio(2, *margins) < 0.2


@given(ratio=RATIOS, margin=st.floats(0.1, 300))
def test_the_sigmoids_do_not_cancel_at_equal_but_opposite_logits(ratio, margin):
    expected = log(ratio) + margin
    assert log(theory.gradient_norm_ratio(ratio, -margin, margin)) == close(expected)


def test_the_ratio_of_gradients_is_not_that_of_all_parameters():
    setup, squares = replace(SETUP, mu=2.5), {}
    for norm in (True, False):
        network = setup.network(norm, margin=0.5)
        loss_of(network(setup.inputs)[:, 0], setup.label).backward()
        squares[norm] = sum(parameter.grad.square().sum().item() for parameter in network.parameters())
    assert theory.influence_ratio(setup.ratio, 0.5, 0.5) == close(9)
    assert squares[True] / squares[False] < 4


@pytest.mark.parametrize("scale", [0.5, 3])
def test_a_scaled_filter_changes_the_amplification_and_not_the_function(scale):
    network, inputs = batch(seed=2, size=16, features=3)
    network[1].eps = NO_EPS
    logits, predicted, squared_norms = [], [], []
    for factor in (1, scale):
        with torch.no_grad():
            network[0].weight *= factor
            network[0].bias *= factor
        network.zero_grad()
        logits.append(network(inputs))
        loss_of(logits[-1][0], 1).backward()
        squared_norms.append(network[0].weight.grad.square().sum().item())
        predicted.append(theory.predicted_amplification(batch_slope(network, inputs) / network[2].weight.item()))
    assert (logits[1] - logits[0]).abs().max() < 1e-12
    assert predicted[1] / predicted[0] == close(1 / scale**2)
    assert squared_norms[1] / squared_norms[0] == close(1 / scale**2)


# Proposition 5.4: the gradient of the scale


@settings(max_examples=40)
@given(setup=setups(), margin=MARGINS)
def test_the_gradient_in_gamma_is_autograd_s(setup, margin):
    network = setup.network(True, margin)
    loss_of(network(setup.inputs)[:, 0], setup.label).backward()
    found = theory.gamma_gradient(setup.label, margin, setup.a, setup.deviation)
    assert found == close(network[1].weight.grad.item(), scale=setup.deviation)


@settings(max_examples=40)
@given(seed=st.integers(0, 1000), size=st.integers(2, 20))
def test_the_gradient_in_gamma_is_the_same_with_statistics_that_move(seed, size):
    network, inputs = batch(seed, size, features=3)
    t, z = deviations(network, inputs), network(inputs)[:, 0]
    for sample, label in ((0, 1), (size - 1, -1)):
        network.zero_grad()
        loss_of(z[sample], label).backward(retain_graph=True)
        found = theory.gamma_gradient(label, label * z[sample].item(), network[2].weight.item(), t[sample].item())
        assert found == close(network[1].weight.grad.item())


def deviations(network: nn.Sequential, inputs: Tensor) -> Tensor:
    h = network[0](inputs)[:, 0].detach()
    return (h - h.mean()) / (h.var(unbiased=False) + network[1].eps).sqrt()


@settings(max_examples=40)
@given(seed=st.integers(0, 1000), size=st.integers(2, 20), outlier=st.floats(0, 1e6))
def test_no_deviation_exceeds_the_root_of_the_batch_less_one(seed, size, outlier):
    network, inputs = batch(seed, size, features=3)
    inputs[0] *= outlier
    bound = sqrt(size - 1)
    t = deviations(network, inputs)
    assert t.abs().max().item() <= bound * (1 + 1e-9)
    inputs[1:] = inputs[1]
    inputs[0] = inputs[1] + 100
    assert deviations(network, inputs).abs().max().item() == pytest.approx(bound, rel=1e-6)


@pytest.mark.parametrize(("size", "label"), [(2, -1), (8, -1), (8, 1), (64, -1)])
def test_in_the_paper_s_mini_batch_the_typical_samples_together_weigh_as_much_but_for_the_sigmoids(size, label):
    network, inputs = batch(seed=3, size=size, features=3)
    inputs[1:] = inputs[1]
    z = network(inputs)[:, 0]
    labels = torch.tensor([label] + [1] * (size - 1))
    parts = []
    for group in (slice(0, 1), slice(1, None)):
        network.zero_grad()
        loss_of(z[group], labels[group]).backward(retain_graph=True)
        parts.append(network[1].weight.grad.item())
    outlier, typical = torch.sigmoid(-labels * z)[:2].tolist()
    assert abs(parts[0] / parts[1]) == close(outlier / typical)


def test_the_outlier_need_not_dominate_the_gradient_in_gamma():
    """In a batch of equal labels and sigmoids the others, each of them small, take all of the outlier's part back."""
    network, inputs = batch(seed=4, size=32, features=3)
    inputs[1:] = inputs[1] + 1e-3 * inputs[1:]
    with torch.no_grad():
        network[1].weight.zero_()
    z = network(inputs)[:, 0]
    loss_of(z, 1).backward()
    parts = [theory.gamma_gradient(1, z[0].item(), network[2].weight.item(), t) for t in deviations(network, inputs)]
    assert abs(parts[0]) > 20 * max(abs(part) for part in parts[1:])
    assert abs(network[1].weight.grad.item()) < 1e-12 * abs(parts[0])


# Theorem 5.5: the loop of gamma and margin


def outlier_of(setup: Setup, network: nn.Sequential) -> tuple[Outlier, State]:
    offset = setup.a * setup.beta + network[2].bias.item()
    outlier = Outlier(setup.label, setup.a, offset, setup.sigma, setup.input_norm)
    return outlier, State(setup.gamma, setup.deviation)


@settings(max_examples=40)
@given(setup=setups(), margin=MARGINS, lr=st.floats(1e-3, 1))
def test_a_step_of_the_loop_is_one_of_gradient_descent_on_filter_and_scale(setup, margin, lr):
    network = setup.network(True, margin)
    outlier, state = outlier_of(setup, network)
    assert theory.margin_of(outlier, state) == close(margin, scale=outlier.offset)
    for _ in range(3):
        state = theory.step(outlier, state, lr)
        setup.descend(network, [network[0].weight, network[1].weight], lr)
        moved = replace(setup, w=network[0].weight[0].tolist())
        assert state.gamma == pytest.approx(network[1].weight.item(), rel=1e-6, abs=1e-9)
        assert state.deviation == pytest.approx(moved.deviation, rel=1e-6, abs=1e-9)
        assert theory.margin_of(outlier, state) == pytest.approx(setup.margin(network), rel=1e-6, abs=1e-7)


def test_a_simulation_is_its_steps():
    outlier, start = OUTLIER, State(1, 3)
    states = theory.simulate(outlier, start, 0.1, 2)
    assert states == [start, theory.step(outlier, start, 0.1), theory.step(outlier, states[1], 0.1)]
    assert theory.simulate(outlier, start, 0.1, 0) == [start]


OUTLIER = Outlier(label=1, a=1.0, offset=0.0, sigma=0.5, input_norm=1.0)
DEVIATIONS = st.floats(0.1, 20) | st.floats(-20, -0.1)


@st.composite
def outliers(draw: st.DrawFn) -> Outlier:
    return Outlier(
        draw(LABELS), draw(WEIGHTS), draw(st.floats(-3, 3)), draw(st.floats(0.2, 5)), draw(st.floats(0.1, 5))
    )


@given(outlier=outliers(), gamma=WEIGHTS, deviation=DEVIATIONS)
def test_gamma_grows_where_label_weight_and_deviation_align_and_falls_elsewhere(outlier, gamma, deviation):
    start = State(gamma, deviation)
    change = theory.step(outlier, start, lr=1.0).gamma - gamma
    gradient = theory.gamma_gradient(outlier.label, theory.margin_of(outlier, start), outlier.a, deviation)
    assert change == close(-gradient, scale=gamma)
    if abs(gradient) > 1e-12:
        assert (change > 0) == (outlier.label * outlier.a * deviation > 0)


@given(outlier=outliers(), gamma=st.floats(0.1, 3), deviation=DEVIATIONS, lr=st.floats(0.01, 1))
def test_gamma_falls_for_an_outlier_that_is_still_to_be_memorized(outlier, gamma, deviation, lr):
    start = State(gamma, deviation)
    bare = replace(outlier, offset=0.0)
    assume(theory.margin_of(bare, start) < 0)
    assert theory.step(bare, start, lr).gamma < gamma


def test_gamma_grows_in_proportion_to_the_deviation_at_equal_margins_and_not_otherwise():
    parts = {t: -theory.gamma_gradient(1, margin=2.0, a=1.0, deviation=t) for t in (1.0, 4.0)}
    assert parts[4.0] == close(4 * parts[1.0])
    grown = {t: theory.step(OUTLIER, State(1.0, t), lr=1.0).gamma - 1 for t in (1.0, 4.0)}
    assert grown[4.0] < grown[1.0] / 3


@given(outlier=outliers(), gamma=WEIGHTS, deviation=DEVIATIONS)
def test_the_margin_grows_through_gamma_as_well(outlier, gamma, deviation):
    start, lr = State(gamma, deviation), 1e-6
    margin = theory.margin_of(outlier, start)
    assume(abs(margin) < 10)
    through_w = theory.margin_growth(margin, outlier.a * gamma / outlier.sigma, outlier.input_norm, lr)
    through_gamma = theory.margin_growth(margin, outlier.a, abs(deviation), lr)
    growth = theory.margin_of(outlier, theory.step(outlier, start, lr)) - margin
    assert growth == pytest.approx(through_w + through_gamma, rel=1e-3, abs=1e-13)


def test_the_margin_s_growth_can_fall_while_gamma_rises():
    states = theory.simulate(OUTLIER, State(1.0, 3.0), lr=0.1, steps=50)
    margins = [theory.margin_of(OUTLIER, state) for state in states]
    growth = [
        theory.margin_growth(margin, state.gamma / OUTLIER.sigma, OUTLIER.input_norm, 0.1)
        for margin, state in zip(margins, states, strict=True)
    ]
    assert (np.diff([state.gamma for state in states]) > 0).all()
    assert (np.diff(growth) < 0).all()
    assert (np.diff(margins, 2) < 0).all()


def test_a_negative_gamma_that_grows_makes_the_ratio_smaller():
    start = State(-1.0, 3.0)
    end = theory.step(OUTLIER, start, lr=0.1)
    assert end.gamma > start.gamma
    assert theory.predicted_amplification(end.gamma) < theory.predicted_amplification(start.gamma)


def conserved(outlier: Outlier, state: State) -> float:
    return (state.gamma * outlier.input_norm / outlier.sigma) ** 2 - state.deviation**2


@given(outlier=outliers(), gamma=WEIGHTS, deviation=DEVIATIONS, lr=st.floats(1e-3, 1))
def test_a_step_shrinks_what_the_flow_conserves_at_second_order_in_its_size(outlier, gamma, deviation, lr):
    start = State(gamma, deviation)
    phi = theory.gradient_norm(theory.margin_of(outlier, start), slope=1, input_norm=1)
    scale = (outlier.input_norm / outlier.sigma) ** 2
    expected = conserved(outlier, start) * (1 - scale * (lr * phi * outlier.a) ** 2)
    size = max(1, scale) * (1 + scale * lr**2 * 9) * (gamma**2 * max(1, scale) + deviation**2)
    assert conserved(outlier, theory.step(outlier, start, lr)) == pytest.approx(expected, rel=1e-9, abs=1e-12 * size)


@pytest.mark.parametrize(
    ("gamma", "deviation", "falls_to"),
    [
        (1.0, 3.0, 1.0),  # on its label's side: gamma only grows
        (1.0, -3.0, 0.0),  # on the other: gamma goes through zero
        (2.0, -3.0, sqrt(4 - 9 / 4)),  # or the outlier goes through the mean
        (-1.0, 3.0, 0.0),
        (0.0, 3.0, 0.0),
    ],
)
def test_the_scale_at_a_margin_is_that_of_a_simulation_in_small_steps(gamma, deviation, falls_to):
    outlier = replace(OUTLIER, offset=0.3)
    states = theory.simulate(outlier, State(gamma, deviation), lr=1e-3, steps=8000)
    for state in states[::400]:
        predicted = theory.scale_at_margin(outlier, states[0], theory.margin_of(outlier, state))
        assert predicted == pytest.approx(abs(state.gamma), rel=0.01, abs=0.01)
    assert theory.margin_of(outlier, states[-1]) > 3
    assert min(abs(state.gamma) for state in states) == pytest.approx(falls_to, abs=0.01)


@given(outlier=outliers(), gamma=WEIGHTS, deviation=DEVIATIONS)
def test_the_scale_at_the_start_is_that_of_the_start(outlier, gamma, deviation):
    start = State(gamma, deviation)
    found = theory.scale_at_margin(outlier, start, theory.margin_of(outlier, start))
    assert found == pytest.approx(abs(gamma), rel=1e-6)


def test_the_scale_at_a_margin_of_nothing_is_what_is_conserved():
    assert theory.scale_at_margin(OUTLIER, State(1.0, -3.0), margin=0.0) == 0
    assert theory.scale_at_margin(OUTLIER, State(2.0, -3.0), margin=0.0) == close(sqrt(4 - 9 / 4))
    assert theory.scale_at_margin(OUTLIER, State(1.0, -2.0), margin=0.0) == 0


def test_a_small_scale_is_not_lost_beside_a_large_deviation():
    start = State(1e-3, 1e6)
    found = theory.scale_at_margin(OUTLIER, start, theory.margin_of(OUTLIER, start))
    assert found == pytest.approx(1e-3, rel=1e-9)


@given(outlier=outliers(), gamma=WEIGHTS, deviation=DEVIATIONS)
def test_gamma_has_no_limit_but_grows_as_the_root_of_the_margin(outlier, gamma, deviation):
    start = State(gamma, deviation)
    assert theory.scale_at_margin(outlier, start, margin=1e9) > 1e3
    ratio = theory.scale_at_margin(outlier, start, margin=4e9) / theory.scale_at_margin(outlier, start, margin=1e9)
    assert ratio == pytest.approx(2, rel=1e-3)


def test_a_deviation_above_1_neither_gives_nor_is_needed_for_a_ratio_above_1():
    wide, narrow = replace(OUTLIER, sigma=10.0), replace(OUTLIER, sigma=0.5)
    stays_below = theory.simulate(wide, State(1.0, 5.0), lr=0.1, steps=10_000)[-1]
    assert theory.margin_of(wide, stays_below) > 8
    assert stays_below.gamma / wide.sigma < 0.5
    above = theory.simulate(narrow, State(1.0, 0.5), lr=0.1, steps=100)[-1]
    assert above.gamma / narrow.sigma > 1
    # And where the outlier is still to be memorized, a narrow channel goes below 1 too.
    through_zero = theory.simulate(narrow, State(1.0, -3.0), lr=0.01, steps=200)
    assert min(abs(state.gamma) for state in through_zero) / narrow.sigma < 0.1


# A.2: many steps


@pytest.mark.parametrize("norm", [False, True])
def test_gradient_descent_in_small_steps_follows_the_solution(norm):
    errors = []
    for lr in (0.01, 0.005):
        network = SETUP.network(norm, margin=-2)
        rate = theory.margin_growth(-inf, SETUP.slope(norm), SETUP.input_norm, lr)
        steps = ceil(theory.time_to_memorize(rate, -2, 1.5))
        SETUP.descend(network, [network[0].weight], lr, steps)
        errors.append(SETUP.margin(network) - theory.margin_after(rate, -2, steps))
    assert 0 < errors[0] < 0.1
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)


def steps_to_memorize(rate: float, start: float, target: float) -> int:
    """Gradient descent's own count, Eq. 26."""
    margin, steps = start, 0
    while margin < target:
        margin += theory.margin_growth(margin, slope=1, input_norm=1, lr=rate)
        steps += 1
    return steps


def test_gradient_descent_takes_the_predicted_number_of_small_steps():
    for start, target in ((-4.0, -1.0), (-3.0, 2.0), (1.0, 3.0)):
        found = steps_to_memorize(0.01, start, target)
        assert found == pytest.approx(theory.time_to_memorize(0.01, start, target), rel=0.01)


@settings(max_examples=50)
@given(rate=st.floats(0.05, 1e3), start=st.floats(-6, 3), way=st.floats(1e-3, 6))
def test_gradient_descent_is_never_later_than_the_solution(rate, start, way):
    target = min(start + way, 5.0)
    assert steps_to_memorize(rate, start, target) <= ceil(theory.time_to_memorize(rate, start, target) * (1 + 1e-9))


@given(rate=RATES, start=st.floats(-700, 30), time=st.floats(0, 1e6))
@example(rate=1.0, start=-800.0, time=1.0)
@example(rate=1.0, start=-1.0, time=1.0)
def test_the_margin_after_a_time_and_the_time_to_a_margin_are_inverse(rate, start, time):
    margin = theory.margin_after(rate, start, time)
    assert margin == pytest.approx(start, abs=1e-9) or margin > start
    found = theory.time_to_memorize(rate, start, max(start, margin))
    lost = 1e-13 * (abs(start) + abs(margin) + np.exp(start) + np.exp(margin)) / rate
    assert found == pytest.approx(time, rel=1e-9, abs=lost * (1 + abs(margin)))


@given(rate=RATES, start=st.floats(-20, 20), time=st.floats(0, 1e4))
def test_the_solution_s_derivative_is_the_flow(rate, start, time):
    width = 1e-5 * (time + np.exp(start) / rate + 1 / rate)
    # Central, from a little later than the start.
    ahead, behind = (theory.margin_after(rate, start, time + width * k) for k in (2, 0))
    middle = theory.margin_after(rate, start, time + width)
    assert (ahead - behind) / (2 * width) == pytest.approx(theory.margin_growth(middle, 1, 1, rate), rel=1e-3)


@given(ratio=RATIOS, rate=RATES, start=st.floats(-50, 20), way=st.floats(0.1, 20))
def test_the_speedup_is_as_predicted_between_any_two_margins(ratio, rate, start, way):
    amplified = rate * theory.predicted_amplification(ratio)
    times = [theory.time_to_memorize(c, start, start + way) for c in (rate, amplified)]
    assert times[0] / times[1] == close(ratio**2)


def test_the_speedup_is_not_as_predicted_from_unequal_starts():
    times = [theory.time_to_memorize(rate, start, 1.0) for rate, start in ((0.1, 0.0), (0.1 * 25, -20.0))]
    assert times[0] / times[1] < 4


def test_the_speedup_of_large_steps_is_not_as_predicted():
    far_below = steps_to_memorize(1.0, -20, 0) / steps_to_memorize(100.0, -20, 0)
    assert far_below < 30
    far_above = steps_to_memorize(1.0, 0, 5) / steps_to_memorize(25.0, 0, 5)
    assert far_above > 100


def test_a_gamma_that_moves_leaves_the_predicted_time_behind():
    start, lr = State(1.0, 2.0), 0.01
    rate = theory.margin_growth(-inf, 1 / OUTLIER.sigma, OUTLIER.input_norm, lr)
    time = theory.time_to_memorize(rate, theory.margin_of(OUTLIER, start), 6)
    earlier = theory.simulate(OUTLIER, start, lr, steps=int(0.4 * time))[-1]
    assert theory.margin_of(OUTLIER, earlier) > 6


@pytest.mark.parametrize(("rate", "start", "target"), [(0.0, 0, 1), (-1.0, 0, 1), (1.0, 1, 0)])
def test_a_time_without_a_rate_or_backward_is_refused(rate, start, target):
    with pytest.raises(BadInputError, match="above 0"):
        theory.time_to_memorize(rate, start, target)


def test_a_time_beyond_float64_is_an_error_and_not_a_number():
    with pytest.raises(OverflowError):
        theory.time_to_memorize(1.0, 0.0, 800.0)


# A.2.3: the two regimes


@given(rate=RATES, start=st.floats(-20, 20), time=st.floats(0, 1e6))
def test_neither_regime_is_ever_below_the_solution(rate, start, time):
    margin = theory.margin_after(rate, start, time)
    slack = 1e-9 * (1 + abs(start))
    assert theory.linear_margin(rate, start, time) >= margin - slack
    assert theory.logarithmic_margin(rate, start, time) >= margin - slack


def test_long_before_saturation_the_margin_grows_linearly_and_only_there():
    errors = []
    for start in (-10, -20, -30):
        linear, true = theory.linear_margin(0.5, start, 8), theory.margin_after(0.5, start, 8)
        assert linear == start + 4
        errors.append(linear - true)
    # What is missing is e^m at the end, less e^m at the start.
    assert errors == pytest.approx([np.exp(m + 4) - np.exp(m) for m in (-10, -20, -30)], rel=0.01, abs=1e-13)
    assert theory.linear_margin(0.5, 0, 8) > theory.margin_after(0.5, 0, 8) + 2


def test_after_saturation_the_margin_grows_logarithmically_the_more_exactly_the_later():
    for start in (-3, 0, 3):
        errors = []
        for time in (1e2, 1e4, 1e6):
            true = theory.margin_after(0.5, start, time)
            errors.append(theory.logarithmic_margin(0.5, start, time) - true)
            # What is missing is the change of m beside that of e^m.
            assert errors[-1] == pytest.approx((true - start) / (0.5 * time + np.exp(start)), rel=0.1)
        assert errors[0] > 0.01
        assert errors[2] < 1e-4
    assert theory.logarithmic_margin(0.5, -3, 2) > theory.margin_after(0.5, -3, 2) + 1


def gap(ratio: float, start: float, time: float, margin=theory.margin_after) -> float:
    """At rate 1, the margin with batch norm less that without."""
    return margin(ratio**2, start, time) - margin(1.0, start, time)


@pytest.mark.parametrize("ratio", [0.5, 2.0, -5.0])
@pytest.mark.parametrize("start", [-10.0, 0.0, 4.0])
def test_the_gap_tends_to_its_limit(ratio, start):
    limit = theory.late_margin_gap(ratio)
    assert limit == close(log(theory.predicted_amplification(ratio)))
    errors = [abs(gap(ratio, start, time) - limit) for time in (1e4, 1e6, 1e8)]
    assert errors[2] < 1e-5
    assert errors[1] < errors[0] / 10


def test_the_gap_is_not_its_limit_at_every_late_step():
    limit = theory.late_margin_gap(5.0)
    # Both are past saturation here, yet the gap is still opening.
    assert gap(5.0, 4.0, time=0.0) == 0
    assert theory.margin_after(1.0, 4.0, time=2.0) > 4
    assert 0 < gap(5.0, 4.0, time=2.0) < limit / 4
    # A gap that opened before saturation is many times as large as its limit.
    assert gap(5.0, -50.0, time=2.0) > 10 * limit


@given(ratio=st.floats(1.1, 10), start=st.floats(-10, 2), time=st.floats(1e5, 1e9))
def test_the_gap_ends_above_its_limit_and_in_the_logarithmic_regime_below(ratio, start, time):
    limit = theory.late_margin_gap(ratio)
    assert gap(ratio, start, time) > limit
    assert gap(ratio, start, time, margin=theory.logarithmic_margin) < limit
