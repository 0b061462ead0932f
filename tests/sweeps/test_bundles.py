import pytest

from study.settings import SETTINGS
from study.speed.timings import Choice
from study.trial import Trial
from sweeps.bundles import (
    MOST_MEMBERS,
    OWN,
    Packing,
    halves,
    packable_groups,
    split_into_bundles,
    worth_bundling,
)

TIMED = ((1, 1.0e-4), (2, 5.7e-5), (4, 4.3e-5), (8, 3.5e-5), (16, 3.6e-5))
"""The seconds of a sample of one member, by the size of a pack."""


def trials(count: int, **settings: object) -> tuple[Trial, ...]:
    return tuple(Trial.of({"k": 0.1, "lr": 1e-4 * (number + 1), **settings}) for number in range(count))


def test_trials_that_differ_in_what_members_may_differ_in_are_packable_groups():
    group = [
        Trial(k=0.1),
        Trial(k=0.2, lr=1e-3),
        Trial(k=0.1, weight_decay=0.1),
        Trial(k=0.1, seed=(1, 2)),
    ]
    assert packable_groups(group) == [tuple(group)]


@pytest.mark.parametrize(
    "name",
    sorted(set(SETTINGS) - set(OWN) - {"k", "protocol", "models", "queries", "ood", "ood_labels", "regularizer"}),
)
def test_trials_that_differ_in_anything_else_are_not(name):
    other = {
        "dataset": "mnist",
        "subset": 500,
        "resize": 56,
        "validation": 0.1,
        "corruption": "natural",
        "k_of": "S_in",
        "flip_to": "any",
        "architecture": "vgg8",
        "norm": "none",
        "norm_eps": 1e-3,
        "norm_momentum": 0,
        "standardize": "dataset",
        "label_smoothing": 0.1,
        "optimizer": "sgd",
        "lr_drop": "100",
        "augmentation": "crops",
        "batch_size": 64,
        "epochs": 3,
        "eval_every": 2,
        "stopping": "best",
        "samples": "scores",
        "mechanism": 3,
        "activations": 3,
        "robustness": "pixel",
        "weights": "final",
        "precision": "bf16",
        "deterministic": "on",
    }
    # Settings that mean something only beside another.
    beside = {
        "momentum": ({"optimizer": "sgd"}, 0.5),
        "lr_factor": ({"lr_drop": "100"}, 0.2),
        "hidden_layers": ({"architecture": "deep_mlp", "hidden_layers": 2}, 3),
        "attack_samples": ({"robustness": "pixel"}, 64),
        "source": ({"robustness": "transfer", "source": "lenet/batch"}, "lenet/none"),
    }
    more, value = beside[name] if name in beside else ({}, other[name])
    settings = {"k": 0.1, "validation": 0.2, **more}
    assert len(packable_groups([Trial.of(settings), Trial.of({**settings, name: value})])) == 2


def test_regularizers_are_kept_apart_and_their_weights_are_not():
    log, also_log = (Trial(regularizer="log", alpha=alpha) for alpha in (0.5, 0.9))
    assert packable_groups([log, Trial(regularizer="hinge", alpha=0.5), also_log]) == [
        (log, also_log),
        (Trial(regularizer="hinge", alpha=0.5),),
    ]


def test_images_that_are_added_make_k_a_number_of_steps():
    assert len(packable_groups([Trial(corruption="ood", k=0.1), Trial(corruption="ood", k=0.2)])) == 2
    assert len(packable_groups([Trial(corruption="natural", k=0.1), Trial(corruption="natural", k=0.2)])) == 1


# As of LeNet on a core, and of a network of which a pack is no faster.
LENET = Packing.of([Choice("single", 1, 1.2e-4), *(Choice("grouped", size, seconds) for size, seconds in TIMED)], 32)
PLAIN = Packing.of([Choice("single", 1, 1e-4), Choice("grouped", 2, 1.1e-4)], 32)


@pytest.mark.parametrize(
    ("packing", "count", "seeds", "share", "sizes"),
    [
        (LENET, 6, 1, 6, [6]),
        (LENET, 24, 1, 24, [8, 8, 8]),
        (LENET, 6, 1, 3, [3, 3]),
        (LENET, 6, 1, 1, [1] * 6),
        (LENET, 12, 5, 6, [6, 6]),  # thirty fill packs of 8, 8, 8, 4 and 2
        (LENET, 3, 5, 3, [3]),  # fifteen make packs of 8 and 7
        (LENET, 2, 16, 2, [1, 1]),
        (LENET, 2, 30, 2, [1, 1]),
        (PLAIN, 6, 1, 6, [1] * 6),
        (Packing(), 6, 1, 6, [1] * 6),
    ],
)
def test_bundles_are_as_large_as_pays_by_what_was_timed_and_leave_work_for_others(packing, count, seeds, share, sizes):
    group = trials(count, seed=tuple(range(seeds)))
    bundles = split_into_bundles(group, packing, share)
    assert [len(bundle) for bundle in bundles] == sizes
    assert tuple(trial for bundle in bundles for trial in bundle) == group


def test_a_bundle_has_no_more_members_than_its_worker_has_memory_for():
    ever_faster = Packing.of([Choice("grouped", size, 1 / size) for size in (1, 4, 16, 64)], 64)
    bundles = split_into_bundles(trials(40, seed=(0, 1)), ever_faster, 40)
    assert max(2 * len(bundle) for bundle in bundles) <= MOST_MEMBERS


@pytest.mark.parametrize(
    ("count", "seeds", "share", "backend", "worth"),
    [
        (6, 1, 2, "auto", True),
        (6, 5, 2, "auto", True),
        (6, 32, 2, "grouped", False),
        (6, 1, 2, "single", False),
        (6, 1, 1, "auto", False),
        (1, 1, 2, "auto", False),
    ],
)
def test_several_trials_go_to_a_worker_where_one_has_few_members_and_no_worker_stays_without(
    count, seeds, share, backend, worth
):
    assert worth_bundling(trials(count, seed=tuple(range(seeds))), share, backend) == worth


def test_halves_are_all_of_it():
    group = trials(5)
    assert halves(group) == [group[:2], group[2:]]
