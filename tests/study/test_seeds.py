import random

import numpy as np
import pytest
import torch

from study import seeds


def test_streams_start_where_they_always_have():
    assert seeds.key(0, "corruption") == 5944067584788442095
    assert seeds.key(0, "order", 1) == 4489457307835839548
    assert seeds.generator(0, "corruption").integers(1000, size=5).tolist() == [211, 453, 133, 53, 296]
    assert seeds.generator(0, "order", 1).permutation(8).tolist() == [3, 1, 2, 4, 0, 7, 6, 5]
    assert seeds.generator(3, "corruption").random(2) == pytest.approx([0.80427464, 0.54814321], abs=1e-8)


def test_the_torch_stream_starts_where_it_always_has():
    with seeds.torch_stream(0, "init"):
        uniform, whole = torch.rand(3), torch.randint(1000, (4,))
    assert uniform.tolist() == pytest.approx([0.43535113, 0.75410247, 0.13503391], abs=1e-7)
    assert whole.tolist() == [635, 893, 689, 170]


def test_a_stream_does_not_depend_on_what_is_drawn_from_another():
    alone = seeds.generator(5, "order", 1).random(4)
    with seeds.torch_stream(5, "init"):
        torch.rand(100)
        seeds.generator(5, "corruption").random(1000)
        np.random.default_rng().random(7)
        assert np.array_equal(seeds.generator(5, "order", 1).random(4), alone)


def test_streams_of_other_names_seeds_and_epochs_are_other_streams():
    names = [("corruption",), ("init",), ("split",), *(("order", epoch) for epoch in range(30))]
    keys = {seeds.key(seed, *name) for seed in range(30) for name in names}
    assert len(keys) == 30 * len(names)
    assert all(0 <= key < 2**63 for key in keys)


def test_the_torch_stream_puts_the_global_generator_back():
    torch.manual_seed(1)
    undisturbed = torch.rand(4)
    torch.manual_seed(1)
    with seeds.torch_stream(0, "init"):
        torch.rand(9)
    assert torch.equal(torch.rand(4), undisturbed)


def test_the_torch_stream_puts_the_global_generator_back_after_an_error():
    before = torch.get_rng_state()

    def fails() -> None:
        with seeds.torch_stream(0, "init"):
            torch.rand(9)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_torch_stream_does_not_depend_on_the_global_generator():
    torch.manual_seed(1)
    with seeds.torch_stream(0, "init"):
        first = torch.rand(4)
    torch.manual_seed(2)
    with seeds.torch_stream(0, "init"):
        assert torch.equal(torch.rand(4), first)


def drawn_by_hosts() -> tuple[list[float], float]:
    return np.random.rand(3).tolist(), random.random()


def test_the_torch_stream_governs_numpys_and_pythons_generators_too_and_puts_them_back():
    random.seed(4)
    np.random.seed(4)
    undisturbed = drawn_by_hosts()
    random.seed(4)
    np.random.seed(4)
    found = []
    for seed in (0, 0, 1):
        with seeds.torch_stream(seed, "init"):
            found.append(drawn_by_hosts())
    assert found[0] == found[1]
    assert found[0] != found[2]
    assert drawn_by_hosts() == undisturbed


@pytest.mark.parametrize("draw", [lambda: torch.rand(1), lambda: np.random.rand(), random.random])
def test_the_global_state_says_whether_a_number_was_drawn(draw):
    before = seeds.global_state()
    assert seeds.global_state() == before
    draw()
    assert seeds.global_state() != before
