import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from study import run
from study.attacks.descent import pgd
from study.attacks.draws import Draws
from study.attacks.transfer import linear_source
from study.data.corruption import corrupt
from study.data.dataset import Dataset, Split, to_float
from study.data.load import load
from study.engine import Pack, pack
from study.engine.pack import Single
from study.errors import BadInputError
from study.lenses import robustness
from study.lenses.robustness import InStandardizedSpace, attacked_samples, output_bits, weight_norm
from study.lenses.trained import Trained
from study.networks import build
from study.networks.catalog import NetworkOptions
from study.networks.norms import batch_norms
from study.networks.standardize import standardize_by
from study.perturbations import CHECKED, passes, perturbations
from study.record.checkpoints import CheckpointStore
from study.record.schema import SCHEMAS
from study.storage.store import LocalStore
from study.training.loop import Member
from study.trial import Trial
from tests.study.records import NOWHERE

PIXEL = Trial(robustness="pixel", lr=0.01, epochs=2, subset=200, batch_size=32, attack_samples=40, seed=(0, 1))


def trained_pack(tiny: Dataset, backend: str, trial: Trial) -> tuple[Pack, list[Member]]:
    """Two members in float64, whose batch norms have seen a batch."""
    networks = [build.build("lenet", tiny.shape, tiny.classes, trial.norm, seed).double() for seed in (0, 1)]
    corrupted = corrupt(tiny.train, tiny.classes, "none", 0.0, 0)
    for network in networks:
        network.train()(to_float(tiny.train.images, torch.float64))
    members = [Member(trial, seed, corrupted) for seed in (0, 1)]
    return pack(backend, networks, tiny.shape), members


def measured(packed: Pack, members: list[Member], data: Dataset) -> list[dict]:
    packed.train(False)
    found = robustness.at_end(Trained(packed, members, data, 2))
    rows = [row for at in range(len(packed)) for row in found[at].tables["robustness"]]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_a_trial_records_every_perturbation_and_the_main_ones_with_its_members(tmp_path):
    records = run.run(PIXEL, NOWHERE, backend="single")
    stated = perturbations(["pixel"], "digits", (1, 28, 28))
    for member in records.members:
        rows = [row for row in records.tables["robustness"] if row["member"] == member["member"]]
        assert len(rows) == len(stated) + 2  # and the two controls
        main = {each.fills: row["acc"] for each, row in zip(stated, rows, strict=False) if each.fills}
        assert main == {name: member[name] for name in ("noise_acc", "pgd_linf_acc", "pgd_l2_acc")}
        assert all(set(row) <= set(SCHEMAS["robustness"].names) for row in rows)
        assert {row["n"] for row in rows} == {40}
        assert len({row["clean_acc"] for row in rows}) == 1
        for row in rows[: len(stated)]:
            assert row["acc"] <= 1
            if row["norm"]:
                assert row["max_distance"] <= row["epsilon"] * (1 + 1e-5)
                assert not row["moved"]
        assert 0 < member["output_bits"] <= math.log2(200)


@pytest.mark.slow
def test_all_test_images_are_attacked_unless_told_otherwise():
    trial = replace(PIXEL, robustness="paper2019", standardize="dataset", attack_samples=0, seed=(0,), norm="none")
    (member,) = (records := run.run(trial, NOWHERE, backend="single")).members
    rows = records.tables["robustness"]
    assert {row["n"] for row in rows} == {360}
    assert [row["clean_acc"] for row in rows] == [pytest.approx(member["test_acc"])] * len(rows)
    assert [row["perturbation"] for row in rows] == ["clean", "noise", "fgsm", "fgsm", "bim"]
    assert {row["space"] for row in rows} == {"standardized"}
    assert member["pgd_linf_acc"] == rows[-1]["acc"]


@pytest.mark.parametrize(("backend", "norm"), [("grouped", "batch"), ("grouped", "none"), ("vmap", "batch")])
def test_a_pack_is_measured_as_each_member_alone(tiny: Dataset, backend, norm):
    trial = replace(PIXEL, norm=norm, attack_samples=0, batch_size=8)
    together = measured(*trained_pack(tiny, backend, trial), tiny)
    networks = trained_pack(tiny, backend, trial)
    alone = []
    for network, member in zip(networks[0].networks, networks[1], strict=True):
        alone += measured(Single([network]), [member], tiny)
    assert len(together) == len(alone)
    for one, other in zip(together, alone, strict=True):
        assert one == {name: pytest.approx(value, abs=1e-10) for name, value in other.items()}


@pytest.mark.slow
def test_the_batch_of_images_makes_no_difference(tiny: Dataset, monkeypatch):
    trial = replace(PIXEL, attack_samples=0)
    packed, members = trained_pack(tiny, "grouped", trial)
    at_once = measured(packed, members, tiny)
    monkeypatch.setattr(robustness, "PREDICT_BATCH", 5)
    in_parts = measured(packed, members, tiny)
    for one, other in zip(at_once, in_parts, strict=True):
        assert one == {name: pytest.approx(value, abs=1e-10) for name, value in other.items()}


def test_nothing_of_a_network_or_an_image_is_changed(tiny: Dataset):
    packed, members = trained_pack(tiny, "grouped", replace(PIXEL, attack_samples=0, robustness="pixel"))
    before = [tensor.clone() for network in packed.networks for tensor in network.state_dict().values()]
    images = tiny.test.images.clone()
    measured(packed, members, tiny)
    after = [tensor for network in packed.networks for tensor in network.state_dict().values()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert torch.equal(images, tiny.test.images)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in packed.parameters)


@pytest.mark.slow
def test_what_was_measured_before_a_stop_is_not_measured_again(tmp_path, monkeypatch):
    perturb, calls = robustness._perturb, []

    def stops_at_the_ninth(*given):
        calls.append(given[1].key)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return perturb(*given)

    monkeypatch.setattr(robustness, "_perturb", stops_at_the_ninth)
    trial = replace(PIXEL, seed=(0,))
    store = CheckpointStore(LocalStore(tmp_path), "sweep")
    given = {"backend": "single", "store": store, "save_every_s": 0.0}
    with pytest.raises(KeyboardInterrupt):
        run.run(trial, NOWHERE, **given)
    told: list[float] = []
    resumed = run.run(trial, NOWHERE, progress=told.append, **given)
    stated = [each.key for each in perturbations(["pixel"], "digits", (1, 28, 28))]
    assert calls == [*stated[:9], *stated[8:]]
    assert told == sorted(told)
    assert told[-1] == 1
    whole = run.run(trial, NOWHERE, backend="single")
    for one, other in zip(resumed.tables["robustness"], whole.tables["robustness"], strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_an_attack_in_the_standardized_space_is_one_on_the_network_behind_that_layer(tiny: Dataset):
    options = NetworkOptions(standardized=True)
    network = build.build("lenet", tiny.shape, tiny.classes, "none", 0, options).double().eval()
    standardize_by(network, torch.tensor([0.2]), torch.tensor([0.5]))
    behind = Single([network.network])
    space = InStandardizedSpace(Single([network]))
    images = to_float(tiny.test.images, torch.float64)
    standardized = space.from_pixels(images)
    attack = replace(pgd("l2", 1.0, 5), bounds=None, random_start=False)
    ours, _ = robustness.attack(space, standardized, tiny.test.labels, attack)
    theirs, _ = robustness.attack(behind, standardized, tiny.test.labels, attack)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert (ours[0] - standardized).abs().max() > 0.01


def test_noise_on_enlarged_images_is_enlarged_as_they_are(tiny: Dataset):
    packed, _ = trained_pack(tiny, "grouped", PIXEL)
    images = torch.full((3, 1, 28, 28), 0.5, dtype=torch.float64)
    batch = robustness._Batch(images, torch.zeros(3), Draws([0, 1], torch.arange(3)), 2)
    (noise,) = (each for each in perturbations(["pixel"], "digits", (1, 28, 28)) if each.fills == "noise_acc")
    difference = robustness._noisy(packed, noise, batch) - images
    blocks = difference.unfold(3, 2, 2).unfold(4, 2, 2).flatten(5)
    assert (blocks == blocks[..., :1]).all()
    assert 0.08 < difference.std() < 0.12


def test_spoiled_statistics_are_found_out_by_the_controls(tmp_path):
    trial = replace(PIXEL, seed=(0,), epochs=4, attack_samples=0, batch_size=64, eval_every=4)
    data = load("digits", tmp_path, 200)
    network = build.build("lenet", data.shape, data.classes, "batch", 0)
    corrupted = corrupt(data.train, data.classes, "none", 0.0, 0)
    packed = Single([network])
    optimizer = torch.optim.Adam(packed.parameters, lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(
            network.train()(to_float(data.train.images, torch.float32)), data.train.labels
        ).backward()
        optimizer.step()
    for _, layer in batch_norms(network):
        layer.running_mean.add_(100.0)
    packed.train(False)
    lens = robustness._Lens(Trained(packed, [Member(trial, 0, corrupted)], data, 4))
    rows = {row["perturbation"]: row for row in lens.controls()}
    assert rows["batch_statistics"]["clean_acc"] < 0.3
    assert min(rows[name]["acc"] for name in ("batch_statistics", "new_statistics")) > 0.8


# Which images, and what the outputs tell


def test_the_attacked_images_are_of_all_classes_and_of_any_number_the_same():
    labels = torch.arange(1000) % 10
    test = Split(torch.zeros(1000, 1, 1, 1, dtype=torch.uint8), labels)
    few, more = (attacked_samples(replace(PIXEL, attack_samples=n), test) for n in (50, 200))
    assert labels[few].bincount().tolist() == [5] * 10
    assert labels[more].bincount().tolist() == [20] * 10
    assert set(few.tolist()) < set(more.tolist())
    assert torch.equal(attacked_samples(replace(PIXEL, attack_samples=0), test), torch.arange(1000))
    assert torch.equal(attacked_samples(replace(PIXEL, attack_samples=50, norm="none", seed=(9,)), test), few)


def certain(labels: Tensor, classes: int) -> Tensor:
    return 100 * nn.functional.one_hot(labels, classes).double()


@pytest.mark.parametrize(
    ("logits", "bits"),
    [
        (torch.zeros(64, 10), 0.0),
        (certain(torch.arange(80) % 8, 10), 3.0),
        (certain(torch.tensor([0, 0, 0, 1]), 2), 0.25 * 2 + 0.75 * math.log2(4 / 3)),
        (torch.arange(4.0)[:, None] * torch.tensor([1.0, 0.0]), 2.0),
    ],
)
def test_output_bits_are_the_entropy_of_what_is_put_out(logits, bits):
    assert output_bits(logits) == pytest.approx(bits, abs=1e-12)


def test_the_norm_of_the_weights_is_that_of_matrices_and_kernels_alone():
    network = nn.Sequential(nn.Conv2d(1, 1, 2), nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 2))
    for parameter in network.parameters():
        nn.init.constant_(parameter, 2.0)
    assert weight_norm(network) == pytest.approx(2 * math.sqrt(4 + 8))


def test_a_linear_classifier_knows_the_digits_that_it_was_fitted_to(tmp_path):
    data = load("digits", tmp_path)
    like = Single([build.build("lenet", data.shape, data.classes, "none", 0)])
    source = linear_source(data.train, data.classes, like)
    logits, _ = source.forward(to_float(data.test.images, torch.float32)[None])
    assert (logits[0].argmax(dim=1) == data.test.labels).float().mean() > 0.85


# What can't be had


def refusal(tmp_path, **settings) -> str:
    trial = Trial.of({"robustness": "pixel", "epochs": 1, **settings})
    with pytest.raises(BadInputError) as caught:
        run.run(trial, tmp_path, backend="single")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_suite_that_can_not_be_had_is_refused_before_any_training(tmp_path):
    spheres = {"dataset": "spheres", "architecture": "spheres_mlp"}
    assert "the points of spheres are none" in refusal(tmp_path, **spheres)
    assert "set standardize=paper2019" in refusal(tmp_path, robustness="paper2019")
    assert "attack_samples=361 are more than the 360 test images" in refusal(tmp_path, attack_samples=361)


def test_what_the_suites_cost_counts_steps_and_images():
    few, all_images = (passes(["pixel"], "mnist", (1, 28, 28), images) for images in (100, 10_000))
    main = [each for each in perturbations(["pixel"], "mnist", (1, 28, 28)) if each.suite == "pixel"]
    assert all_images - few > sum(each.passes for each in main) * 9_000
    assert passes(["paper2019"], "mnist", (1, 28, 28), 3) == pytest.approx(3 * (5 / 3 + 102 * 2 / 3))
    assert CHECKED < 10_000


def test_no_image_is_alone_in_a_batch_whose_statistics_it_is_normalized_by(tiny: Dataset):
    packed, members = trained_pack(tiny, "grouped", replace(PIXEL, attack_samples=0, batch_size=len(tiny.test) - 1))
    packed.train(False)
    lens, sizes = robustness._Lens(Trained(packed, members, tiny, 2)), []
    measure = lens._correct_with
    lens._correct_with = lambda own, images, labels: (sizes.append(len(images)), measure(own, images, labels))[1]
    lens.controls()
    assert min(sizes) > 1
    assert sum(sizes) == 2 * len(tiny.test)
