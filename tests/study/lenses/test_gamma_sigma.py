import pytest
import torch
from torch import nn

from study.lenses.gamma_sigma import COLUMNS, by_layer, overall
from tests.study.waits import waits


def network(*layers: nn.BatchNorm1d) -> nn.Module:
    return nn.Sequential(*layers)


def known(gamma: list[float], variance: list[float]) -> nn.BatchNorm1d:
    layer = nn.BatchNorm1d(len(gamma), eps=0.0)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(gamma))
        layer.running_var.copy_(torch.tensor(variance))
    return layer


def test_the_ratio_of_each_layer_is_gamma_over_the_running_deviation():
    # Ratios 2, 1/2 and 3; the sign of gamma is of no matter.
    (first, second), (other, _) = by_layer(
        [network(known(gamma, [4, 4, 1]), known([1], [0.25])) for gamma in ([-4, 1, 3], [-8, 2, 6])]
    )
    assert (first["layer"], first["depth"], first["channels"]) == ("0", 0, 3)
    assert first["ratio_mean"] == pytest.approx(5.5 / 3)
    assert first["ratio_median"] == pytest.approx(2)
    assert first["ratio_q05"] == pytest.approx(0.5 + 0.1 * 1.5)
    assert first["ratio_q95"] == pytest.approx(2 + 0.9 * 1)
    assert (first["gamma_mean"], first["gamma_median"]) == pytest.approx((8 / 3, 3))
    assert (first["sigma_mean"], first["sigma_q05"], first["sigma_q95"]) == pytest.approx((5 / 3, 1.1, 2))
    # Twice the gamma, and the same sigma.
    times = {"ratio": 2, "gamma": 2, "sigma": 1}
    assert {name: other[name] / first[name] for name in COLUMNS} == {
        name: pytest.approx(times[name.partition("_")[0]]) for name in COLUMNS
    }
    assert (second["layer"], second["depth"], second["ratio_mean"]) == ("1", 1, 2)


def test_layers_count_alike_in_the_overall_ratio_however_wide():
    assert overall(by_layer([network(known([1, 1, 1], [1, 1, 1]), known([3], [1]))])[0]) == 2


def test_a_network_without_batch_norm_has_no_ratio():
    assert by_layer([nn.Linear(2, 2)] * 3) == [[], [], []]
    assert overall([]) is None


def test_the_values_of_all_layers_and_networks_are_asked_for_together():
    networks = [network(known([1, 2], [1, 1]), known([1], [1])) for _ in range(3)]
    with waits() as found:
        by_layer(networks)
    # On a CPU alone, torch looks whether a quantile is one.
    assert [each for each in found if each != "aten._local_scalar_dense.default"] == ["tolist"]
