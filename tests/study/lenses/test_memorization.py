import math
from math import log

import pytest
import torch
from torch import Tensor

from study.data.corruption import Corrupted
from study.data.dataset import Split
from study.lenses.memorization import memorization

IMAGES = torch.zeros(6, 1, 1, 1, dtype=torch.uint8)
ROWS = torch.arange(6)
# Logits that are the logarithms of probabilities, so that every loss can be read off.
D_PRIME = torch.tensor(
    [
        [0.5, 0.3, 0.2],
        [0.1, 0.8, 0.1],
        [0.2, 0.2, 0.6],
        [0.7, 0.2, 0.1],
        [0.3, 0.4, 0.3],
        [0.25, 0.25, 0.5],
    ]
).log()
ASSIGNED = torch.tensor([0, 1, 0, 1, 1, 2])
ORIGINAL = torch.tensor([1, 1, 2, 0, 1, 2])
OUT = torch.tensor([True, False, True, True, False, False])
EVERYBODY = torch.ones(6, dtype=torch.bool)
CORRUPTED = Corrupted(IMAGES, ROWS, ASSIGNED, ORIGINAL, OUT, EVERYBODY)
TEST = Split(IMAGES[:2], torch.tensor([0, 2]))
TEST_LOGITS = torch.tensor([[0.9, 0.05, 0.05], [0.5, 0.25, 0.25]]).log()


def of_one(logits: Tensor, corrupted: Corrupted, test_logits: Tensor) -> dict[str, float | None]:
    (found,) = memorization(logits[None], [corrupted], {"test": (test_logits[None], TEST)})
    return found


def test_every_metric_is_what_a_hand_computes():
    found = of_one(D_PRIME, CORRUPTED, TEST_LOGITS)
    assert found == pytest.approx(
        {
            # Samples 0, 2 and 3 answer 0, 2 and 0: assigned were 0, 0 and 1, originally they were 1, 2 and 0.
            "mem_acc": 1 / 3,
            "true_label_acc": 2 / 3,
            "mem_loss": -(log(0.5) + log(0.2) + log(0.2)) / 3,
            # Samples 1, 4 and 5 answer as they should.
            "clean_acc": 1.0,
            "clean_loss": -(log(0.8) + log(0.4) + log(0.5)) / 3,
            "test_acc": 1 / 2,
            "test_loss": -(log(0.9) + log(0.25)) / 2,
        },
        abs=1e-6,
    )


def test_without_corruption_nothing_is_said_of_the_atypical():
    clean = Corrupted(IMAGES, ROWS, ORIGINAL, ORIGINAL, ~EVERYBODY, EVERYBODY)
    found = of_one(D_PRIME, clean, TEST_LOGITS)
    assert found["mem_acc"] is found["mem_loss"] is found["true_label_acc"] is None
    # Sample 0 alone answers otherwise than it is labelled.
    assert found["clean_acc"] == pytest.approx(5 / 6)


def test_where_all_is_corrupted_nothing_is_said_of_the_clean():
    found = of_one(D_PRIME, Corrupted(IMAGES, ROWS, ASSIGNED, ORIGINAL, EVERYBODY, EVERYBODY), TEST_LOGITS)
    assert found["clean_acc"] is found["clean_loss"] is None
    assert found["mem_acc"] == pytest.approx(4 / 6)


def test_of_an_empty_set_nothing_is_said_and_each_set_goes_by_its_name():
    none = Split(IMAGES[:0], torch.tensor([], dtype=torch.int64))
    unseen = {"test": (D_PRIME[None, :0], none), "val": (TEST_LOGITS[None], TEST)}
    (found,) = memorization(D_PRIME[None], [CORRUPTED], unseen)
    assert found["test_acc"] is found["test_loss"] is None
    assert found["val_acc"] == 1 / 2
    assert found["val_loss"] == of_one(D_PRIME, CORRUPTED, TEST_LOGITS)["test_loss"]


def test_a_large_loss_stays_finite():
    logits = torch.tensor([[1e30, 0.0, -1e30]] * 6)
    found = of_one(logits, CORRUPTED, logits[:2])
    assert found["test_loss"] == pytest.approx(1e30)


def test_each_member_of_a_pack_has_its_own_labels_and_logits():
    clean = Corrupted(IMAGES, ROWS, ORIGINAL, ORIGINAL, ~EVERYBODY, EVERYBODY)
    unsure = torch.zeros_like(D_PRIME)
    found = memorization(
        torch.stack([D_PRIME, unsure, torch.full_like(unsure, math.nan)]),
        [CORRUPTED, clean, CORRUPTED],
        {"test": (torch.stack([TEST_LOGITS, unsure[:2], unsure[:2]]), TEST)},
    )
    assert found[0] == of_one(D_PRIME, CORRUPTED, TEST_LOGITS)
    assert found[1] == of_one(unsure, clean, unsure[:2])
    # What diverged takes no other with it.
    assert found[2]["mem_loss"] is None
