"""The suite `transfer` of the lens on robustness: images that fool another network, shown to this one."""

from dataclasses import replace

import pytest
import torch

from study import run
from study.attacks.descent import attack, bim
from study.attacks.transfer import trained_source
from study.data.corruption import corrupt
from study.data.dataset import to_float
from study.data.load import load
from study.engine.pack import Single
from study.errors import BadInputError
from study.lenses import robustness
from study.lenses.robustness import InStandardizedSpace, attacked_samples
from study.lenses.trained import Trained
from study.network_of import network_of
from study.perturbations import perturbations
from study.training.loop import Member, Training
from study.trial import Trial
from tests.study.records import NOWHERE

TRANSFER = Trial(
    standardize="paper2019",
    robustness="transfer",
    source="lenet/none",
    lr=0.01,
    epochs=2,
    subset=200,
    batch_size=32,
    attack_samples=40,
    seed=(0, 1),
)


def test_a_row_says_whose_images_were_shown():
    records = run.run(TRANSFER, NOWHERE, backend="grouped")
    rows = [row for row in records.tables["robustness"] if row["suite"] != "controls"]
    assert [row["member"] for row in rows] == [0, 1]
    for row in rows:
        assert (row["suite"], row["perturbation"], row["source"]) == ("transfer", "bim", "lenet/none")
        assert (row["epsilon"], row["step"], row["steps"], row["n"]) == (0.1, 0.05, 10, 40)
        assert row["clip_low"] is None
        assert 0 <= row["acc"] <= row["top5"] <= 1
        assert row["max_distance"] <= 0.1 * (1 + 1e-5)


def test_each_member_is_shown_what_fools_the_source_of_its_seed():
    data = load("digits", NOWHERE, 200)
    corrupted = corrupt(data.train, data.classes, "none", 0.0, 0)
    members = [Member(TRANSFER, seed, corrupted) for seed in (0, 1)]
    for member in members:
        network = network_of(TRANSFER, data, member.seed).double()
        packed = Single([network])
        for _ in Training(packed, [member]):
            pass
        packed.train(False)
        (found,) = robustness.at_end(Trained(packed, [member], data, 2)).values()
        (row,) = (row for row in found.tables["robustness"] if row["suite"] == "transfer")
        source = trained_source(member, data, packed)
        at = attacked_samples(TRANSFER, data.test)
        space = InStandardizedSpace(source)
        images = space.from_pixels(to_float(data.test.images[at], torch.float64))
        labels = data.test.labels[at]
        fooling, of_source = attack(space, images, labels, bim(0.1, 0.05, 10))
        with torch.no_grad():
            logits = InStandardizedSpace(packed).forward(fooling)[0][0]
        assert row["acc"] == (logits.argmax(dim=1) == labels).double().mean().item()
        assert (of_source.rank == 0).double().mean() < row["acc"]  # it is the source that is attacked


def test_a_source_is_the_same_in_all_arms_and_another_network_than_one_of_its_own_layers():
    data = load("digits", NOWHERE, 200)
    corrupted = corrupt(data.train, data.classes, "none", 0.0, 0)

    def of(seed: int, **settings: object) -> dict[str, torch.Tensor]:
        trial = Trial(**{**TRANSFER.settings(), "epochs": 1, **settings})
        like = Single([network_of(trial, data, 0)])
        return trained_source(Member(trial, seed, corrupted), data, like).networks[0].state_dict()

    one = of(0, norm="batch", norm_momentum=0.0)
    for name, value in of(0, norm="none", architecture="linear").items():
        assert torch.equal(value, one[name])
    assert not any(torch.equal(value, one[name]) for name, value in of(1).items() if name.startswith("network"))
    own = network_of(replace(TRANSFER, norm="none"), data, 0)
    first = next(iter(own.parameters()))
    untrained = network_of(TRANSFER.source_of(0), data, TRANSFER.source_of(0).seed[0])
    assert not torch.equal(first, next(iter(untrained.parameters())))


def test_a_source_that_can_not_be_attacked_gives_a_reason_and_no_accuracy():
    data = load("digits", NOWHERE, 200)
    broken = network_of(replace(TRANSFER, norm="none"), data, 0)
    next(iter(broken.parameters())).data.fill_(float("nan"))
    fine = network_of(replace(TRANSFER, norm="none"), data, 1)
    pack = Single([fine.eval()])
    space, source = InStandardizedSpace(pack), InStandardizedSpace(Single([broken.eval()]))
    (of,) = perturbations(["transfer"], "digits", data.shape)
    images = space.from_pixels(to_float(data.test.images[:4], torch.float32))
    batch = robustness._Batch(images, data.test.labels[:4], robustness.Draws([0], torch.arange(4)), 1)
    assert robustness._perturb(space, of, batch, [source]).failed == {0: "its source: a gradient is not finite"}


def test_epsilon_is_that_of_the_papers_white_box_attacks():
    found = {
        dataset: perturbations(["transfer"], dataset, shape)[0]
        for dataset, shape in (("imagenet", (3, 224, 224)), ("cifar10", (3, 32, 32)), ("mnist", (1, 28, 28)))
    }
    assert [(of.epsilon, of.step, of.steps) for of in found.values()] == [
        (0.01, 0.005, 10),
        (0.03, 0.015, 10),
        (0.1, 0.05, 10),
    ]


def refusal(**settings: object) -> str:
    with pytest.raises(BadInputError) as caught:
        run.run(Trial(**{**TRANSFER.settings(), **settings}), NOWHERE, backend="single")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_source_that_can_not_be_had_is_refused_before_any_training():
    assert "name it with source=ARCHITECTURE/NORM" in refusal(source="none")
    assert "did you mean 'vgg8'" in refusal(source="vg8/none")
    assert "did you mean 'batch'" in refusal(source="lenet/bach")
    assert "source" in refusal(source="lenet")
    assert "norm=fixup is for residual networks" in refusal(source="lenet/fixup")
    assert "number of its layers" in refusal(source="deep_mlp/none")
    assert "protocol=full" in refusal(protocol="splits", seed=(0,))
    assert "set standardize=paper2019" in refusal(standardize="none")
    assert "the points of spheres are none" in refusal(
        dataset="spheres", architecture="spheres_mlp", subset=0, standardize="none", source="linear/none"
    )


def test_without_the_suite_a_source_means_nothing():
    assert replace(TRANSFER, robustness="paper2019").source == "none"
    assert replace(TRANSFER, robustness="pixel+transfer").source == "lenet/none"


def test_a_source_is_trained_at_a_cost():
    data = load("digits", NOWHERE, 200)
    images = 40 * (10 * 2 / 3 + 1 / 3)
    assert robustness.cost(TRANSFER, data) == pytest.approx(2 * 200 + images)
