import sys
from pathlib import Path

import pytest

from study.errors import BadInputError
from sweeps import registry
from sweeps.sweep import Scale


@pytest.mark.parametrize("name", registry.SWEEPS)
@pytest.mark.parametrize("scale", Scale)
def test_every_sweep_has_trials_at_both_scales_and_a_question(name: str, scale: Scale):
    sweep = registry.sweep(name)
    assert sweep.plan(scale).members > 0
    assert sweep.question.endswith("?")


@pytest.mark.parametrize("name", registry.SWEEPS)
def test_the_quick_scale_needs_no_download(name: str):
    here = {"digits", "digits_3_7", "spheres"}
    assert {trial.dataset for trial in registry.sweep(name).plan(Scale.quick).trials} <= here


@pytest.mark.parametrize("name", registry.SWEEPS)
def test_every_sweep_says_which_papers_figure_or_table_it_feeds(name: str):
    years = registry.sweep(name).feeds.partition(": ")[0].split(" and ")
    assert {int(year) for year in years} <= registry.PAPERS.keys()


def test_an_unknown_sweep_names_the_nearest():
    with pytest.raises(BadInputError, match="did you mean 'quickstart'"):
        registry.sweep("quikstart")


# The user's own


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A current directory with a module of the user's, with the import state put back afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "mine.py").write_text(
        """
from sweeps.sweep import Sweep, product
from sweeps import registry

def named(name, quick=(product(k=0.1, norm=("batch", "none")),)):
    return Sweep(name, "Does it?", "nothing", quick, quick)

SWEEP = named("my_sweep")
CLASH = named("quickstart")
TUNING = named("tune_regularizer")
FOLDER = named("../elsewhere")
NO_GRID = named("no_grid", quick=(3,))
NO_SETTING = named("no_setting", quick=(product(norms="batch"),))
NO_GRIDS = named("no_grids", quick=3)
NO_LEVELS = named("no_levels", quick=({"k": ()},))
NO_QUICK = named("no_quick", quick=())
NO_NAME = named(None)
NUMBERED = named("numbered", quick=({3: (1,)},))
FACTOR = Sweep("factor", "Does it?", "nothing", (product(k=0.1),), (product(k=0.1),), factor="nrom")
NO_SWEEP = 3
"""
    )
    yield tmp_path
    sys.modules.pop("mine", None)


def test_a_sweep_of_ones_own_is_planned_as_a_built_in_one_and_has_its_own_folder(here):
    plan = registry.sweep("mine:SWEEP").plan(Scale.quick, {"k": [0.1, 0.2]})
    assert (plan.sweep, len(plan.trials)) == ("my_sweep", 4)
    assert registry.folder("mine:SWEEP") == "my_sweep"
    assert registry.folder("quickstart") == "quickstart"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("yours:SWEEP", "there is no module 'yours'"),
        ("mine:SWEP", "did you mean 'SWEEP'"),
        ("mine:NO_SWEEP", "must be a sweeps.sweep.Sweep, not int"),
        ("mine:CLASH", "has the name of the built-in sweep quickstart"),
        ("mine:TUNING", "not tune_ at the beginning"),
        ("mine:FOLDER", "results go to a folder of that name"),
        ("mine:NO_GRID", "must have tuples of grids"),
        ("mine:NO_SETTING", "unknown setting 'norms'"),
        ("mine:NO_GRIDS", "must have tuples of grids"),
        ("mine:NO_LEVELS", "must have tuples of grids"),
        ("mine:NO_QUICK", "no_quick has no grid at --scale quick"),
        ("mine:NO_NAME", "has the name None"),
        ("mine:NUMBERED", "unknown setting '3'"),
        ("mine:FACTOR", "did you mean 'norm'"),
    ],
)
def test_what_is_no_sweep_gets_a_sentence(here, name: str, said: str):
    with pytest.raises(BadInputError, match=said) as caught:
        registry.sweep(name).plan(Scale.quick)
    assert "\n" not in str(caught.value)
