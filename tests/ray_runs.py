"""Sweeps that really run, as fixtures for whoever needs their records."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import sweeps.launch

ROOT = Path(__file__).parents[1]
TINY = ["--set", "epochs=3", "--set", "seed=0,1", "--workers", "1"]
"""The quickstart in a few seconds: each worker takes some to start."""

Command = Callable[..., subprocess.CompletedProcess[str]]


def command(module: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", module, *map(str, arguments)]


@pytest.fixture(scope="session")
def sweeps() -> Command:
    """`python -m sweeps` as a user runs it, on a pipe."""

    def run(*arguments: str | Path, module: str = "sweeps") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(module, *arguments), cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )

    return run


@pytest.fixture(scope="session")
def finished(sweeps: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder in which the tiny quickstart has run to its end on Ray, in two launches."""
    results = tmp_path_factory.mktemp("finished") / "results"
    first = sweeps("run", "quickstart", *TINY, "--limit", "1", "--results", results)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "about to run 1 trial, 2 members" in first.stdout
    assert "1 done, 3 missing" in first.stdout
    rest = sweeps("run", "quickstart", *TINY, "--results", results)
    assert rest.returncode == 0, rest.stdout + rest.stderr
    assert "quickstart: 100%, 3 done, 0 missing, 0 failed; took " in rest.stdout
    for norm in ("batch", "none"):
        assert rest.stdout.count(f"norm={norm}: trained as ") == 1
    return results
