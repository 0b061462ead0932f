import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from study.errors import BadInputError
from study.lenses.membership import global_threshold, score

SCORES = st.lists(st.integers(-4, 4), min_size=1, max_size=30)


def numbers(values: list[float] | range) -> torch.Tensor:
    return torch.tensor(list(values), dtype=torch.float64)


# phi


def test_the_score_is_what_a_hand_computes():
    logits = numbers([math.log(6), math.log(2), math.log(1)])[None].repeat(3, 1)
    found = score(logits, torch.tensor([0, 1, 2]))
    assert found.tolist() == pytest.approx([math.log(6 / 3), math.log(2 / 7), math.log(1 / 8)])


def test_of_two_classes_the_score_is_the_margin():
    assert score(numbers([3, -1.5])[None], torch.tensor([0])).tolist() == [4.5]


def test_the_score_is_the_logit_of_the_probability_of_the_label():
    logits, labels = torch.randn(50, 10, dtype=torch.float64), torch.randint(10, (50,))
    p = logits.softmax(dim=1).gather(1, labels[:, None])[:, 0]
    assert (score(logits, labels) - torch.log(p / (1 - p))).abs().max() < 1e-12


def reference(logits: torch.Tensor, labels: torch.Tensor) -> list[float]:
    rows = logits.double().numpy()
    found = []
    for row, label in zip(rows, labels.tolist(), strict=True):
        others = np.delete(row, label)
        found.append(row[label] - (others.max() + math.log(np.exp(others - others.max()).sum())))
    return found


@pytest.mark.parametrize("scale", [1, 20, 100])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_the_score_of_logits_of_any_width_is_that_of_a_wide_computation(dtype, scale):
    logits, labels = (scale * torch.randn(200, 10)).to(dtype), torch.randint(10, (200,))
    found = score(logits, labels)
    assert found.dtype in (torch.float32, torch.float64)
    assert found.dtype == torch.float64 or dtype != torch.float64
    assert found.tolist() == pytest.approx(reference(logits, labels), rel=1e-5, abs=1e-5 * scale)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("margin", [20, 100, 1000])
def test_a_large_margin_is_neither_lost_nor_infinite(dtype, margin):
    logits = torch.zeros(2, 10, dtype=dtype)
    logits[:, 3] = margin
    found = score(logits, torch.tensor([3, 0]))
    assert found.tolist() == pytest.approx([margin - math.log(9), -margin], rel=1e-6)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=5))
@example([-3e38, 3e38])
@example([3e38, -3e38, -3e38])
def test_finite_logits_have_a_finite_score(logits):
    assert score(torch.tensor([logits], dtype=torch.float32), torch.tensor([0])).isfinite().all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_refused(value):
    with pytest.raises(BadInputError, match="not finite"):
        score(torch.tensor([[0.0, value]]), torch.tensor([0]))


def test_a_single_class_has_no_score():
    with pytest.raises(BadInputError, match="two classes"):
        score(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))


def test_scoring_does_not_depend_on_the_batch_or_on_what_becomes_of_its_arguments():
    logits, labels = torch.randn(30, 10, dtype=torch.float64), torch.randint(10, (30,))
    before = logits.clone()
    alone = torch.cat([score(row, label) for row, label in zip(logits.split(1), labels.split(1), strict=True)])
    assert (score(logits, labels) - alone).abs().max() < 1e-12
    assert torch.equal(logits, before)


# The attack with one threshold


def test_the_auc_is_known_at_perfection_inversion_and_chance():
    high, low = numbers(range(10, 20)), numbers(range(10))
    assert global_threshold(high, low).auc == 1
    assert global_threshold(low, high).auc == 0
    assert global_threshold(numbers([5.0] * 7), numbers([5.0] * 3)).auc == 0.5
    assert global_threshold(numbers(range(0, 40, 4)), numbers(range(0, 40, 4))).auc == 0.5


def test_the_auc_of_equal_distributions_is_at_chance():
    generator = torch.Generator().manual_seed(0)
    members, others = (torch.randn(20000, generator=generator) for _ in range(2))
    # Its standard error is 0.003.
    assert global_threshold(members, others).auc == pytest.approx(0.5, abs=0.01)


@given(SCORES, SCORES)
def test_the_auc_is_the_share_of_pairs_in_order_with_ties_counted_half(members, others):
    pairs = [(member > other) + (member == other) / 2 for member in members for other in others]
    assert global_threshold(numbers(members), numbers(others)).auc == pytest.approx(sum(pairs) / len(pairs))


def test_the_auc_looks_at_the_order_alone():
    members, others = torch.randn(100), torch.randn(80)
    plain = global_threshold(members, others).auc
    assert global_threshold(members.double() * 3 + 50, others.double() * 3 + 50).auc == plain
    assert global_threshold(members.flip(0), others.flip(0)).auc == plain


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(value):
    with pytest.raises(BadInputError, match="not finite"):
        global_threshold(numbers([0, value]), numbers([1]))
    with pytest.raises(BadInputError, match="not finite"):
        global_threshold(numbers([1]), numbers([0, value]))


def test_an_empty_side_is_refused():
    for members, others in [([], [1.0]), ([1.0], []), ([], [])]:
        with pytest.raises(BadInputError, match="needs members and non-members"):
            global_threshold(numbers(members), numbers(others))


@pytest.mark.parametrize("others", [1, 998])
def test_a_rate_that_the_non_members_can_not_resolve_is_left_out(others):
    assert global_threshold(numbers(range(5)), numbers(range(others))).tpr_at_1e3fpr is None


@pytest.mark.parametrize(
    ("members", "others", "expected"),
    [
        # Above the largest of 1,000 one of 1,001 others is expected: a threshold just above 999.
        ([2000, 999.5, 998.5, 998, 0], range(1000), 2 / 5),
        # Above the second largest two of 2,001 are, so just above 1,998.
        ([1998.5, 1998, 1996, 3000], range(2000), 2 / 4),
        # Two of 2,000 are 0.1% exactly: just above 1,997, where one of the 1,999 is mistaken.
        ([1997.5, 1996.5, 3000], range(1999), 2 / 3),
        # Two non-members share the highest score, and a threshold takes both or neither, with the members there.
        ([999, 999, 999.5, 0], [*range(999), 998], 3 / 4),
        ([999, 999, 999.5, 0], [*range(998), 999, 999], 1 / 4),
        # All members share the score of the largest non-member.
        ([999, 999], range(1000), 0),
        # Members and non-members go in step, so that the ROC curve is straight there.
        ([1999, 1998, 1997], range(2000), 1 / 3),
        ([5, 5, 5], [5] * 1000, 0),
        ([0, 1], range(2, 1002), 0),
        ([2000, 2001], range(1000), 1),
    ],
)
def test_the_rate_at_one_in_a_thousand_is_what_a_hand_counts(members, others, expected):
    assert global_threshold(numbers(members), numbers(others)).tpr_at_1e3fpr == pytest.approx(expected)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 1010), min_size=1, max_size=20), st.integers(1000, 1100))
def test_the_rate_at_one_in_a_thousand_is_that_of_the_best_threshold(members, others):
    scores = [score % 1005 for score in range(others)]
    best = 0.0
    for threshold in {*members, *scores, 2000}:
        if (sum(score >= threshold for score in scores) + 1) / (others + 1) <= 1e-3:
            best = max(best, sum(member >= threshold for member in members) / len(members))
    assert global_threshold(numbers(members), numbers(scores)).tpr_at_1e3fpr == pytest.approx(best)
