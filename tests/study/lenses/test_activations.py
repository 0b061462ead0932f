import torch

from study import run
from study.lenses.activations import plane
from study.trial import Trial
from tests.study.records import NOWHERE

SPHERES = Trial(dataset="spheres", architecture="deep_linear", epochs=0, activations=1, batch_size=32, seed=(3,))


def rows_of(trial: Trial) -> list[dict]:
    return run.run(trial, NOWHERE, backend="single").tables["activations"]


def test_two_batches_are_followed_through_all_layers_of_an_untrained_network():
    rows = rows_of(SPHERES)
    assert {row["epoch"] for row in rows} == {0}
    layers = dict.fromkeys(row["layer"] for row in rows)
    assert len(layers) == 1 + 32  # the image, and every linear layer
    of_input = [row for row in rows if row["layer"] == "input"]
    assert [row["batch"] for row in of_input] == [0] * 32 + [1] * 32
    radii = torch.tensor([(row["x"] ** 2 + row["y"] ** 2) ** 0.5 for row in of_input])
    torch.testing.assert_close(radii, 1 + 0.3 * torch.tensor([float(row["label"]) for row in of_input]))
    for layer in layers:
        assert [row["sample"] for row in rows if row["layer"] == layer] == [row["sample"] for row in of_input]


def test_each_batch_has_statistics_of_its_own_where_there_is_batch_norm():
    def spread(norm: str, layer: str) -> torch.Tensor:
        trial = Trial(**{**SPHERES.settings(), "norm": norm})
        points = [(row["x"], row["y"]) for row in rows_of(trial) if row["layer"] == layer]
        return torch.tensor(points).view(2, 32, 2).std(dim=1).norm(dim=1)

    # Batch norm keeps the spread of a batch about 1 at any depth; without it layers of this initialization shrink it.
    deep = "59"
    normed, plain = spread("batch", deep), spread("none", deep)
    assert 0.1 < normed.min() < normed.max() < 10
    assert plain.max() < 1e-3


def test_a_trained_network_is_looked_at_before_training_and_at_some_epochs():
    trial = Trial(architecture="mlp_2d", epochs=4, activations=3, subset=100, batch_size=20)
    rows = rows_of(trial)
    assert sorted({row["epoch"] for row in rows}) == [0, 2, 4]
    of_two_units = [row for row in rows if row["layer"] == "7" and row["epoch"] == 4]
    assert len(of_two_units) == 40
    assert {row["label"] for row in of_two_units} <= set(range(10))


def test_two_features_are_taken_as_they_are_and_more_in_their_main_plane():
    features = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(plane(features), features)
    assert plane(features[:, :1])[:, 1].tolist() == [0] * 20
    turned = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q[:2]
    in_plane = plane((features * torch.tensor([3.0, 1.0])) @ turned + 7)
    # Distances within a plane are kept, wherever it lies.
    torch.testing.assert_close(torch.pdist(in_plane), torch.pdist(features * torch.tensor([3.0, 1.0])))
    assert in_plane[:, 0].var() > in_plane[:, 1].var()
    again = plane((features * torch.tensor([3.0, 1.0])) @ turned + 7)
    assert torch.equal(again, in_plane)


def test_a_convolution_counts_as_a_layer():
    rows = rows_of(Trial(activations=1, epochs=1, subset=64, batch_size=16))
    names = list(dict.fromkeys(row["layer"] for row in rows))
    assert names == ["input", "0", "4", "9", "12", "15"]
