import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from study.data.dataset import Dataset, Split

pytest_plugins = ["tests.ray_runs", "tests.stores"]

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"

# The times by which a backend is chosen go into a cache of the tests' own, which all of their processes share.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="normleak-tests-")

# A shell has its background jobs ignore Ctrl-C, and what a test starts, and interrupts, would ignore it as well.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Networks this small are fastest on one thread, and one thread adds up in one order.
torch.set_num_threads(1)
settings.register_profile("normleak", deadline=None, derandomize=True)
settings.load_profile("normleak")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=0, help="at how many random moments more a sweep's driver is killed")
    parser.addoption("--races", type=int, default=4, help="how often four launches try for a sweep at once")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that start Ray first: they take longest, and no process is to be left with one at the end.

    Tests of a GPU are skipped where there is none.
    """
    with_ray = {item.path for item in items if item.get_closest_marker("ray")}
    items.sort(key=lambda item: item.path not in with_ray)
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="there is no GPU here"))


@pytest.fixture(autouse=True)
def global_random_state() -> Iterator[None]:
    """Every test starts from the same global generators, whichever tests ran before it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def shared_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip("the real image data is not here")
    return SHARED_DATA


def random_split(samples: int, classes: int, seed: int, channels: int = 1, size: int = 16) -> Split:
    """Noise with labels in turn, so that every class is there."""
    pixels = np.random.default_rng(seed).integers(0, 256, (samples, channels, size, size), dtype=np.uint8)
    return Split(torch.from_numpy(pixels), torch.arange(samples) % classes)


@pytest.fixture
def tiny() -> Dataset:
    """40 training and 12 test images of noise, 16x16 in grey, in 4 classes."""
    return Dataset(random_split(40, 4, seed=1), random_split(12, 4, seed=2), classes=4)
