"""The examples run as they stand, those of docstrings too."""

import doctest
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
def test_a_trial_is_run_and_read_from_python(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "one_trial.py")], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    header, _, batch, none = (line.split() for line in done.stdout.splitlines())
    assert header == ["mem_acc", "clean_acc", "test_acc", "mia_auc"]
    assert (batch[0], none[0]) == ("batch", "none")
    assert float(batch[1]) > 0.5 > float(none[1]), "batch norm memorizes, as the example is to show"


@pytest.mark.slow
def test_a_network_of_ones_own_goes_through_the_study(tmp_path: Path):
    settings = ["architecture=own_network:wide_and_shallow", "k=0.1", "epochs=1", "norm=group"]
    command = ["run", *settings, "--backend", "single", "--results"]
    done = subprocess.run(
        [sys.executable, "-m", "study", *command, str(tmp_path / "results")],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "trained as" in done.stdout


@pytest.mark.slow
@pytest.mark.ray
def test_the_notebook_reads_a_results_folder(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RESULTS", str(finished))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(EXAMPLES.parent), os.environ.get("PYTHONPATH", "")]))
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    notebook = nbformat.read(EXAMPLES / "read_results.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not kept in git"
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("image/png" in output.get("data", {}) for output in shown)
    assert sum("text/html" in output.get("data", {}) for output in shown) == 4


@pytest.mark.parametrize(
    "module",
    [
        *("study.run", "study.trial", "study.theory", "study.data.corruption", "study.networks.build"),
        *("study.mia.lira", "study.mia.roc", "analysis.statistics.paired"),
    ],
)
def test_the_examples_of_docstrings_are_true(module: str):
    found = doctest.testmod(import_module(module))
    assert found.attempted > 0
    assert found.failed == 0
