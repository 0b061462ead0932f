from collections.abc import Iterator
from dataclasses import replace

import pytest

from sweeps.launch.cluster import Pool, connect
from sweeps.launch.launch import Cluster


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """Two workers of a Ray on this machine, used by all tests of a file."""
    with connect(Cluster(workers=2, device="cpu")) as workers:
        yield workers


@pytest.fixture
def one(pool: Pool) -> Pool:
    """One of the workers, each of which takes seconds to start."""
    return replace(pool, workers=1)
