import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import chisquare

from study import seeds
from study.data.corruption import Rules, amount, corrupt, corrupt_each, flip_labels
from study.data.dataset import Split
from study.errors import BadInputError
from study.networks import build
from study.networks.catalog import NORMS

AMOUNTS = st.floats(min_value=0, max_value=1, exclude_min=True, exclude_max=True)


def labelled(labels: np.ndarray | list[int]) -> Split:
    return Split(torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8), torch.as_tensor(labels))


@st.composite
def label_sets(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    classes = draw(st.integers(2, 12))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=60))
    return np.array(labels), classes


@given(label_sets(), AMOUNTS, st.integers(0, 1000))
def test_exactly_round_k_n_samples_are_flipped_and_none_keeps_its_class(label_set, k, seed):
    labels, classes = label_set
    assume(round(k * len(labels)) > 0)
    indices, flipped = flip_labels(labels, classes, k, seeds.generator(seed, "corruption"))
    assert len(indices) == len(flipped) == round(k * len(labels))
    assert (np.diff(indices) > 0).all()
    assert indices[0] >= 0
    assert indices[-1] < len(labels)
    assert (flipped != labels[indices]).all()
    assert ((flipped >= 0) & (flipped < classes)).all()


@given(label_sets(), AMOUNTS, AMOUNTS, st.integers(0, 1000))
def test_what_is_flipped_at_a_small_k_is_flipped_to_the_same_label_at_a_larger_one(label_set, one, other, seed):
    labels, classes = label_set
    assume(round(min(one, other) * len(labels)) > 0)
    small, large = (
        dict(zip(*flip_labels(labels, classes, k, seeds.generator(seed, "corruption")), strict=True))
        for k in sorted((one, other))
    )
    assert small.items() <= large.items()


def test_flips_are_what_they_have_always_been():
    indices, flipped = flip_labels(np.zeros(20, dtype=np.int64), 10, 0.3, seeds.generator(0, "corruption"))
    assert indices.tolist() == [5, 7, 9, 13, 14, 15]
    assert flipped.tolist() == [6, 2, 5, 8, 7, 1]


def test_new_labels_are_uniform_over_the_other_classes():
    labels = np.arange(40000) % 10
    indices, flipped = flip_labels(labels, 10, 0.5, seeds.generator(0, "corruption"))
    counts = np.zeros((10, 10), dtype=int)
    np.add.at(counts, (labels[indices], flipped), 1)
    assert not counts.diagonal().any()
    for original in range(10):
        assert chisquare(np.delete(counts[original], original)).pvalue > 1e-3


def test_a_label_that_is_drawn_from_any_class_may_stay_and_is_clean_then():
    train, rules = labelled(np.arange(40000) % 10), Rules(flip_to="any")
    corrupted = corrupt(train, 10, "label", 0.5, 0, rules=rules)
    assert torch.equal(corrupted.atypical, corrupted.labels != train.labels)
    # Of 20,000 drawn samples a tenth keeps its class; four standard deviations are 170.
    assert int(corrupted.atypical.sum()) == pytest.approx(18000, abs=170)
    with pytest.raises(BadInputError, match="each of the drawn samples keeps its class"):
        corrupt(labelled([0, 1]), 2, "label", 0.5, seed=1, rules=rules)


@pytest.mark.parametrize("corruption", ["label", "natural"])
def test_k_of_what_is_left_makes_s_out_k_times_as_large_as_s_in(tiny, corruption):
    corrupted = corrupt(tiny.train, 4, corruption, 0.25, 0, rules=Rules(k_of="S_in"))
    assert (int(corrupted.atypical.sum()), int((~corrupted.atypical).sum())) == (8, 32)
    assert (amount(0.25, 40), amount(0.25, 40, "S_in")) == (10, 8)


def test_added_images_have_one_label_each_where_they_are_to_and_keep_it_at_a_larger_k(tiny):
    source, rules = tiny.test.images.repeat(10, 1, 1, 1), Rules(ood_labels="each")
    few, many = (corrupt(tiny.train, 4, "ood", k, 0, source, rules) for k in (0.5, 0.9))
    one = corrupt(tiny.train, 4, "ood", 0.5, 0, source)
    assert torch.equal(few.images, one.images)
    assert len(set(one.labels[one.atypical].tolist())) == 1
    assert set(few.labels[few.atypical].tolist()) == {0, 1, 2, 3}
    assert torch.equal(many.labels[: len(few)], few.labels)


def test_flipped_samples_are_uniform_over_the_set():
    indices, _ = flip_labels(np.zeros(40000, dtype=np.int64), 10, 0.25, seeds.generator(0, "corruption"))
    assert chisquare(np.bincount(indices // 2000, minlength=20)).pvalue > 1e-3


def test_both_classes_of_two_are_exchanged():
    indices, flipped = flip_labels(np.array([0, 1] * 10), 2, 0.5, seeds.generator(0, "corruption"))
    assert np.array_equal(flipped, 1 - np.array([0, 1] * 10)[indices])


@given(label_sets(), AMOUNTS, st.integers(0, 1000))
def test_masks_assigned_and_original_labels_tell_one_story(label_set, k, seed):
    labels, classes = label_set
    assume(round(k * len(labels)) > 0)
    train = labelled(labels)
    corrupted = corrupt(train, classes, "label", k, seed)
    assert len(corrupted) == len(labels)
    assert corrupted.labels.dtype == corrupted.original_labels.dtype == torch.int64
    assert corrupted.atypical.dtype == torch.bool
    assert corrupted.original_labels.tolist() == labels.tolist()
    assert torch.equal(corrupted.atypical, corrupted.labels != corrupted.original_labels)
    assert int(corrupted.atypical.sum()) == round(k * len(labels))
    assert train.labels.tolist() == labels.tolist()


def test_images_are_left_as_they_are(tiny):
    before = tiny.train.images.clone()
    corrupted = corrupt(tiny.train, 4, "label", 0.5, seed=0)
    assert torch.equal(corrupted.images, before)


def test_without_corruption_nothing_is_atypical(tiny):
    corrupted = corrupt(tiny.train, 4, "none", 0.0, seed=0)
    assert not corrupted.atypical.any()
    assert torch.equal(corrupted.labels, tiny.train.labels)
    assert torch.equal(corrupted.original_labels, tiny.train.labels)


def test_flips_depend_on_the_seed_and_never_on_the_arm(tiny):
    def flips(norm: str, seed: int) -> list[int]:
        build.build("lenet", tiny.shape, tiny.classes, norm, seed)
        return corrupt(tiny.train, tiny.classes, "label", 0.5, seed).labels.tolist()

    for seed in range(3):
        assert len({tuple(flips(norm, seed)) for norm in NORMS}) == 1
    assert len({tuple(flips("batch", seed)) for seed in range(5)}) == 5


def test_a_k_that_corrupts_nothing_is_refused():
    with pytest.raises(BadInputError, match=r"k=0\.01 corrupts none of 20 samples"):
        corrupt(labelled([0, 1] * 10), 2, "label", 0.01, seed=0)


def test_labels_of_a_single_class_can_not_be_flipped():
    with pytest.raises(BadInputError, match="among 1 class"):
        corrupt(labelled([0] * 10), 1, "label", 0.5, seed=0)


def ood_source(count: int) -> torch.Tensor:
    """Images that tell which they are: all pixels of the i-th are i."""
    return torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 1, 16, 16)


def test_ood_images_are_added_last_under_one_label_and_none_twice(tiny):
    corrupted = corrupt(tiny.train, 4, "ood", 0.25, 0, ood_source(30))
    assert len(corrupted) == 40 + 10
    assert corrupted.atypical.tolist() == [False] * 40 + [True] * 10
    assert corrupted.labels[40:].unique().numel() == 1
    assert corrupted.original_labels[40:].tolist() == [-1] * 10
    assert corrupted.images[40:, 0, 0, 0].unique().numel() == 10
    torch.testing.assert_close(corrupted.images[:40], tiny.train.images)
    assert corrupted.labels[:40].tolist() == tiny.train.labels.tolist()


def test_members_share_one_pool_of_images_and_each_has_what_it_has_alone(tiny):
    """Of 30 images of D*, 8 seeds take 4 or 10 each: the pool has D once, and each image that a seed takes once."""
    asked = [(k, seed) for seed in range(4) for k in (0.1, 0.25)]
    together = corrupt_each(tiny.train, 4, "ood", asked, ood_source(30))
    for (k, seed), found in zip(asked, together, strict=True):
        alone = corrupt(tiny.train, 4, "ood", k, seed, ood_source(30))
        for name in ("images", "labels", "original_labels", "atypical"):
            assert torch.equal(getattr(found, name), getattr(alone, name))
        assert found.pool is together[0].pool
    taken = {int(pixel) for found in together for pixel in found.images[40:, 0, 0, 0]}
    assert len(taken) > 10
    assert together[0].pool[40:, 0, 0, 0].tolist() == sorted(taken)
    assert torch.equal(together[0].pool[:40], tiny.train.images)


@pytest.mark.parametrize("corruption", ["none", "label", "natural"])
def test_without_ood_images_the_pool_is_d_itself(tiny, corruption):
    k = 0.0 if corruption == "none" else 0.25
    for found in corrupt_each(tiny.train, 4, corruption, [(k, 0), (k, 1)]):
        assert found.pool is tiny.train.images
        assert torch.equal(found.images, tiny.train.images)


def test_ood_images_at_a_small_k_are_among_those_at_a_larger_one_under_the_same_label(tiny):
    few, many = (corrupt(tiny.train, 4, "ood", k, 3, ood_source(30)) for k in (0.1, 0.5))
    assert few.images[40:, 0, 0, 0].tolist() == many.images[40:44, 0, 0, 0].tolist()
    assert set(few.labels[40:].tolist()) == set(many.labels[40:].tolist())


def test_the_label_of_ood_images_differs_between_seeds(tiny):
    labels = {int(corrupt(tiny.train, 4, "ood", 0.1, seed, ood_source(30)).labels[-1]) for seed in range(40)}
    assert labels == {0, 1, 2, 3}


def test_more_ood_images_than_there_are_is_refused(tiny):
    with pytest.raises(BadInputError, match="takes 20 images of the OOD source, which has 19"):
        corrupt(tiny.train, 4, "ood", 0.5, 0, ood_source(19))


def test_natural_outliers_are_those_that_stand_out_and_change_nothing(tiny):
    images = (torch.arange(40 * 256).reshape(40, 1, 16, 16) % 7 + 100).to(torch.uint8)
    images[[3, 17], :, :8] = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None]
    train = Split(images, tiny.train.labels)
    corrupted = corrupt(train, 4, "natural", 0.05, seed=0)
    assert corrupted.atypical.nonzero().flatten().tolist() == [3, 17]
    assert corrupted.labels.tolist() == corrupted.original_labels.tolist() == train.labels.tolist()
    assert len(corrupted) == 40


def test_natural_outliers_do_not_depend_on_the_seed(tiny):
    first, second = (corrupt(tiny.train, 4, "natural", 0.2, seed) for seed in (0, 1))
    assert first.atypical.tolist() == second.atypical.tolist()
    assert int(first.atypical.sum()) == 8
