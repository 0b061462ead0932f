"""Quick sweeps that run to their end, as a user starts them."""

from pathlib import Path

import pytest

from study.record.results import Results
from tests.ray_runs import Command

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_networks_that_are_not_trained_are_measured_and_recorded(sweeps: Command, tmp_path: Path):
    done = sweeps(
        "run", "spheres", "--only", "architecture=deep_linear", "--results", tmp_path, "--workers", "1", "--yes"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "spheres: 2 done, 0 missing, 0 failed, 0 diverged" in done.stdout
    results = Results.at(tmp_path)
    assert {(row["norm"], row["backend"]) for row in results.read("spheres", "members").to_pylist()} == {
        ("batch", "single"),
        ("none", "single"),
    }
    # The images, 31 layers and the logits, of two batches of 32 samples and two networks.
    assert len(results.read("spheres", "activations")) == 2 * 33 * 64


def test_a_quick_sweep_of_the_paper_runs_to_its_end(sweeps: Command, tmp_path: Path):
    done = sweeps("run", "loss_scaling", "--results", tmp_path, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = Results.at(tmp_path).read("loss_scaling", "members").to_pylist()
    rows.sort(key=lambda row: row["weight_decay"])
    norms = [row["weight_norm"] for row in rows]
    assert norms == sorted(norms, reverse=True)
    assert min(row["test_acc"] for row in rows) > 0.9
