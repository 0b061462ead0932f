import torch

from study.data.dataset import Split, to_float


def test_bytes_become_numbers_from_0_to_1_and_stay_bytes_themselves():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8)
    for dtype in (torch.float32, torch.float64):
        scaled = to_float(images, dtype)
        assert scaled.dtype == dtype
        assert torch.equal(scaled, torch.tensor([0, 0.2, 1], dtype=dtype))
    assert images.tolist() == [0, 51, 255]


def test_a_moved_split_is_the_same_split(tiny):
    moved = tiny.test.to("cpu")
    assert isinstance(moved, Split)
    assert torch.equal(moved.images, tiny.test.images)
    assert torch.equal(moved.labels, tiny.test.labels)
