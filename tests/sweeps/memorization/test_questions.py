from importlib import import_module
from pathlib import Path

import pytest

from sweeps import memorization, registry
from sweeps.sweep import Scale

NAMES = sorted(path.stem for path in Path(memorization.__path__[0]).glob("*.py"))
SWEEPS = [name for name in NAMES if name not in ("__init__", "grids")]


@pytest.mark.parametrize("name", SWEEPS)
def test_a_file_opens_with_its_question_and_has_the_sweep_of_its_name(name: str):
    module = import_module(f"sweeps.memorization.{name}")
    first = (module.__doc__ or "").partition("\n")[0]
    assert "?" in first
    assert first.split()[0] in ("Do", "Does", "Is", "What")
    assert registry.SWEEPS[name] is module.SWEEP
    assert module.SWEEP.name == name


def test_the_papers_grids_are_full():
    """Its Fig. 1: four datasets, five networks, six ratios, two arms, each on five seeds."""
    trials = registry.sweep("label_noise").plan(Scale.paper).trials
    assert len(trials) == 4 * 5 * 6 * 2
    assert {len(trial.seed) for trial in trials} == {5}
