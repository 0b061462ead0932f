import pytest

from study.settings import SETTINGS
from study.trial import Trial
from sweeps.bundles import OWN, halves, packable_groups, split_into_bundles, worth_bundling


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
        "validation": 0.1,
        "corruption": "natural",
        "k_of": "S_in",
        "flip_to": "any",
        "architecture": "vgg8",
        "norm": "none",
        "label_smoothing": 0.1,
        "optimizer": "sgd",
        "batch_size": 64,
        "epochs": 3,
        "eval_every": 2,
        "stopping": "best",
        "samples": "scores",
        "mechanism": 3,
        "weights": "final",
        "precision": "bf16",
    }
    settings = {"k": 0.1, "validation": 0.2}
    assert len(packable_groups([Trial.of(settings), Trial.of({**settings, name: other[name]})])) == 2


def test_regularizers_are_kept_apart_and_their_weights_are_not():
    log, also_log = (Trial(regularizer="log", alpha=alpha) for alpha in (0.5, 0.9))
    assert packable_groups([log, Trial(regularizer="hinge", alpha=0.5), also_log]) == [
        (log, also_log),
        (Trial(regularizer="hinge", alpha=0.5),),
    ]


def test_images_that_are_added_make_k_a_number_of_steps():
    assert len(packable_groups([Trial(corruption="ood", k=0.1), Trial(corruption="ood", k=0.2)])) == 2
    assert len(packable_groups([Trial(corruption="natural", k=0.1), Trial(corruption="natural", k=0.2)])) == 1


@pytest.mark.parametrize(
    ("count", "seeds", "members", "share", "sizes"),
    [
        (6, 1, 4, 6, [4, 2]),
        (6, 1, 4, 3, [3, 3]),
        (6, 1, 4, 1, [1] * 6),
        (6, 2, 4, 6, [2, 2, 2]),
        (3, 5, 4, 3, [1, 1, 1]),
        (1, 1, 32, 1, [1]),
        (12, 5, 32, 12, [6, 6]),
    ],
)
def test_bundles_have_about_so_many_members_and_leave_work_for_others(count, seeds, members, share, sizes):
    group = trials(count, seed=tuple(range(seeds)))
    bundles = split_into_bundles(group, members, share)
    assert [len(bundle) for bundle in bundles] == sizes
    assert tuple(trial for bundle in bundles for trial in bundle) == group


@pytest.mark.parametrize(
    ("count", "seeds", "share", "device", "backend", "worth"),
    [
        (6, 1, 2, "cpu", "auto", True),
        (6, 5, 2, "cpu", "auto", False),
        (6, 5, 2, "cuda", "grouped", True),
        (6, 1, 2, "cpu", "single", False),
        (6, 1, 1, "cpu", "auto", False),
        (1, 1, 2, "cpu", "auto", False),
    ],
)
def test_several_trials_go_to_a_worker_where_one_has_few_members_and_no_worker_stays_without(
    count, seeds, share, device, backend, worth
):
    assert worth_bundling(trials(count, seed=tuple(range(seeds))), share, device, backend) == worth


def test_halves_are_all_of_it():
    group = trials(5)
    assert halves(group) == [group[:2], group[2:]]
