"""CIFAR-10.1 in the lens on robustness: a second test set, to which the suite `paper2019` does the same."""

from pathlib import Path

import pytest
import torch

from study.data import cifar10_1
from study.data.corruption import corrupt
from study.data.dataset import Dataset, Split
from study.engine.pack import Single
from study.lenses import robustness
from study.lenses.trained import Trained
from study.networks import build
from study.networks.catalog import NetworkOptions
from study.perturbations import CIFAR10_1, passes, perturbations
from study.training.loop import Member
from study.trial import Trial
from tests.study.corruptions.pictures import pictures
from tests.study.data.second import publish

PAPER = Trial(
    dataset="cifar10", norm="none", standardize="paper2019", robustness="paper2019", attack_samples=6, epochs=1
)


def measured(folder: Path, trial: Trial = PAPER) -> list[dict]:
    split = Split(torch.from_numpy(pictures(12, 3, 32)), torch.arange(12) % 10)
    data = Dataset(split, split, 10, folder=folder)
    network = build.build("lenet", data.shape, 10, "none", 0, NetworkOptions(standardized=True)).double().eval()
    robustness.check(trial, network, data)
    member = Member(trial, 0, corrupt(split, 10, "none", 0.0, 0))
    (found,) = robustness.at_end(Trained(Single([network]), [member], data, 1)).values()
    return found.tables["robustness"]


def test_the_same_is_done_to_both_test_sets(tmp_path):
    images, labels = publish(tmp_path, 12)
    rows = measured(tmp_path)
    first, second = ([row for row in rows if row["split"] == split] for split in ("test", CIFAR10_1))
    assert len(first) == len(second) == len(rows) / 2
    told_apart = ("perturbation", "norm", "epsilon", "step", "steps", "clip_low", "n")
    assert [[row[name] for name in told_apart] for row in first] == [
        [row[name] for name in told_apart] for row in second
    ]
    assert {row["n"] for row in second} == {6}
    (clean,) = (row for row in second if row["perturbation"] == "clean")
    at = robustness.drawn_by_class(torch.from_numpy(labels), 6)
    network = build.build("lenet", (3, 32, 32), 10, "none", 0, NetworkOptions(standardized=True)).double().eval()
    with torch.no_grad():
        logits = network(torch.from_numpy(images[at.numpy()].transpose(0, 3, 1, 2)).double() / 255)
    right = (logits.argmax(dim=1) == torch.from_numpy(labels)[at]).double().mean().item()
    assert clean["acc"] == clean["clean_acc"] == right
    assert clean["max_distance"] == 0


def test_without_its_files_there_are_no_rows_of_it_and_it_is_said(tmp_path, capsys):
    publish(tmp_path / "with")
    cifar10_1.say_missing.cache_clear()
    with_them = [row for row in measured(tmp_path / "with") if row["split"] == "test"]
    assert not capsys.readouterr().err
    without = measured(tmp_path)
    assert "no results on cifar10.1" in capsys.readouterr().err
    for one, other in zip(without, with_them, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


@pytest.mark.parametrize(("suite", "dataset"), [("pixel", "cifar10"), ("paper2019", "svhn")])
def test_other_suites_and_datasets_have_no_second_test_set(suite, dataset):
    assert perturbations([suite], dataset, (3, 32, 32), second=True) == perturbations([suite], dataset, (3, 32, 32))


def test_it_is_counted_in_what_the_suite_costs_with_the_images_that_it_has():
    both, first = (passes(["paper2019"], dataset, (3, 32, 32), 10_000) for dataset in ("cifar10", "cifar100"))
    assert both == pytest.approx(first * 1.2)
    both, first = (passes(["paper2019"], dataset, (3, 32, 32), 100) for dataset in ("cifar10", "cifar100"))
    assert both == pytest.approx(first * 2)
    keys = [each.key for each in perturbations(["paper2019"], "cifar10", (3, 32, 32), second=True)]
    assert len(set(keys)) == len(keys)
