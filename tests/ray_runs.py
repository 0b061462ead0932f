"""Commands that really run."""

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
