"""What a command imports before it does anything, by which its help is quick or slow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {
    *("torch", "torchvision", "numba", "ray", "optuna", "sqlalchemy", "pandas", "scipy", "sklearn", "statsmodels"),
    *("matplotlib", "seaborn", "PIL", "jinja2", "boto3", "mlflow", "wandb", "tensorboardX"),
}
"""The libraries that no help text needs, each of which takes a tenth of a second or more, or loads one that does."""

EVERY_HELP = """
import contextlib, io, json, sys
from importlib import import_module
from typer.main import get_command

def paths(command, *path):
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from paths(below, *path, name)

place, name = sys.argv[1].split(":")
found = {}
app = getattr(import_module(place), name)
command = get_command(app() if name == "combined" else app)
for path in paths(command):
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        command([*path, "--help"])
    assert "Usage" in shown.getvalue(), path
    found[" ".join(path)] = sorted({module.partition(".")[0] for module in sys.modules})
print(json.dumps(found))
"""
"""Prints for every command of a command line the libraries that are loaded once its help has been shown."""


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("application", "some"),
    [
        ("study.__main__:app", {"", "run"}),
        ("sweeps.__main__:app", {"", "run", "tune", "cluster check"}),
        ("analysis.__main__:app", {"", "tables", "report", "audit-statistics"}),
        ("analysis.cli:combined", {"", "trial", "cluster init", "tables"}),  # the script `normleak`
    ],
)
def test_no_help_waits_for_a_library_that_it_does_not_need(application: str, some: set[str]):
    done = python("-c", EVERY_HELP, application)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert some <= found.keys()
    assert {command: HEAVY.intersection(loaded) for command, loaded in found.items() if HEAVY & set(loaded)} == {}


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_of_what_trains_starts_python_once(option: str):
    # Python says once a start that it imports the module `site`.
    done = python("-X", "importtime", "-m", "study", "run", option, OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
    assert sum(line.split("|")[-1].strip() == "site" for line in done.stderr.splitlines()) == 1


def test_a_table_of_what_was_recorded_waits_for_no_statistics():
    code = """
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from study.record.results import Results
from study.trial import Trial
from sweeps.plan import Plan
from analysis.__main__ import app

trial = Trial(k=0.1, seed=(0, 1))
with TemporaryDirectory() as folder:
    results = Results.at(Path(folder))
    Plan("mine", 1, (trial,)).save(results)
    shared = {**trial.settings(), "trial": trial.id, "cell": trial.cell, "model": 0, "status": "ok", "mem_acc": 0.5}
    results.write("mine", trial.id, {"members": [{**shared, "member": seed, "seed": seed} for seed in trial.seed]})
    app(["tables", folder], standalone_mode=False)
print(*sorted({".".join(name.split(".")[:2]) for name in sys.modules}))
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    shown, _, loaded = done.stdout.rstrip().rpartition("\n")
    assert "0.500 ± 0.000" in shown
    assert {"scipy.stats", "scipy.special", "scipy.optimize", "matplotlib", "seaborn", "torch", "ray"}.isdisjoint(
        loaded.split()
    )
