"""Imports go one way, study <- sweeps <- analysis, and every choice of a setting has something that carries it out."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import torch

from study.data import folders
from study.data.files import FOLDERS
from study.networks import build
from study.networks.regularizers import watch_penalty
from study.run import run
from study.settings import SETTINGS
from study.training.optimizers import OPTIMIZERS
from study.trial import Trial
from tests.absent import without

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "study": {"sweeps", "analysis", "tests", "ray", "pandas"},
    "sweeps": {"analysis", "tests", "ray"},
    "analysis": {"tests", "ray", "torch", "torchvision"},
}
RAY_IN = "sweeps/launch/"
"""Where Ray may be imported: the package that launches trials, and sets the environment that Ray reads."""
SOURCES = [path for package in FORBIDDEN for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path: Path) -> Iterator[str]:
    """The top-level packages that a file imports anywhere, in functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: the tree is imported by its full names"
            assert node.module is not None
            yield node.module.partition(".")[0]


def test_imports_go_one_way():
    wrong = {}
    for path in SOURCES:
        name = path.relative_to(ROOT).as_posix()
        allowed = {"ray"} if name.startswith(RAY_IN) else set()
        wrong[name] = set(imported(path)) & FORBIDDEN[path.relative_to(ROOT).parts[0]] - allowed
    assert {name: packages for name, packages in wrong.items() if packages} == {}


def test_ray_is_imported_by_the_package_that_launches_trials_alone():
    names = [path.relative_to(ROOT).as_posix() for path in SOURCES if "ray" in set(imported(path))]
    assert {name.rpartition("/")[0] + "/" for name in names} == {RAY_IN}


def test_imports_within_functions_are_seen(tmp_path: Path):
    path = tmp_path / "late.py"
    path.write_text("import os.path\ndef late():\n    if True:\n        from ray.tune import Tuner\n")
    assert set(imported(path)) == {"os", "ray"}


def modules(*folder: str) -> list[str]:
    paths = [path.relative_to(ROOT).with_suffix("") for path in SOURCES if ROOT.joinpath(*folder) in path.parents]
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


def loaded(code: str) -> set[str]:
    """The top-level packages that a fresh Python has loaded after running the code."""
    code += "\nimport sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("names", "present", "absent"),
    [
        (modules("analysis"), {"pandas"}, {"ray", "torch"}),
        (["sweeps.registry", "sweeps.__main__", "study.__main__"], {"study"}, {"ray", "torch", "analysis"}),
        # The analysis computes attacks again from saved scores.
        (modules("study", "mia"), {"numpy"}, {"torch", "pandas", "ray"}),
    ],
    ids=["analysis", "sweeps", "attacks"],
)
def test_importing_loads_no_more_than_it_should(names: list[str], present: set[str], absent: set[str]):
    found = loaded("\n".join(f"import {name}" for name in names))
    assert present <= found
    assert found & absent == set()


@pytest.mark.slow
def test_who_launches_trials_does_without_torch_and_its_memory():
    found = loaded(
        "from pathlib import Path; import study.record.rows, sweeps.launch.trials; from study.trial import Trial\n"
        "from sweeps.estimate import check_and_time\n"
        "assert check_and_time([Trial(k=0.1)], Path(), backend='single').seconds > 0"
    )
    assert "ray" in found
    assert "torch" not in found


@pytest.mark.slow
def test_a_trial_runs_where_neither_ray_nor_pandas_is_installed():
    # scikit-learn loads pandas where it finds it, so that it must not be there to be found.
    code = (
        without("ray", "pandas")
        + """
from pathlib import Path
from study.run import run
from study.trial import Trial

(member,) = run(Trial(k=0.1, epochs=1, batch_size=256), Path("unused"), backend="single").members
assert member["status"] == "ok", member
"""
    )
    found = loaded(code + "\n".join(f"import {name}" for name in modules("study")))
    assert "torch" in found
    assert found & {"ray", "pandas", "sweeps", "analysis"} == set()


# No circle of imports, neither of files nor of rooms


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in SOURCES}


def imported_modules(path: Path) -> Iterator[str]:
    """The project's modules that a file imports when it is imported or run, so not those for type checking alone."""
    tree = ast.parse(path.read_text())
    checks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    for_types = {id(node) for check in checks for node in ast.walk(check)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in for_types:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else str(node.module) for name in names)


def room_of(module: str) -> str:
    """The folder of a module, one level below its package; a module that lies in no folder is a room of its own."""
    package, room, *inner = module.split(".") if "." in module else (module, "")
    return f"{package}.{room}" if inner or (ROOT / package / room).is_dir() else module


@pytest.mark.parametrize("place", [str, room_of], ids=["files", "rooms"])
def test_no_circle_of_imports(place: Callable[[str], str]):
    graph: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        for other in imported_modules(path):
            if other in MODULES and place(other) != place(module):
                graph.setdefault(place(module), set()).add(place(other))
    assert len(graph) > 20
    list(TopologicalSorter(graph).static_order())


# Nothing that is read can run code

UNSAFE_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "__import__", "import_module", "read_pickle", "unsafe_load"}
IMPORTING = "study/imports.py"
"""What imports a module by a name that is no part of the source: that of the user's own network or sweep."""


def unsafe(source: str) -> Iterator[str]:
    """What a source has that could run code out of a file or a name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (name for name in names if name.partition(".")[0] in UNSAFE_MODULES)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            library, _, name = called.rpartition(".")
            runs = name in UNSAFE_CALLS and library in (
                "",
                "importlib",
                "pd",
                "pandas",
                "yaml",
            )  # model.eval() does not
            unpickles = called == "torch.load" and given.get("weights_only") != "True"
            if runs or unpickles or given.get("allow_pickle", "False") != "False":
                yield called


def test_no_source_reads_what_could_run_code():
    found = {path.relative_to(ROOT).as_posix(): set(unsafe(path.read_text())) for path in SOURCES}
    assert {name: calls for name, calls in found.items() if calls} == {IMPORTING: {"importlib.import_module"}}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "numpy.load(path, None, allow_pickle=choice)",
        "pd.read_pickle(path)",
        "__import__(name)",
        "exec(code)",
    ],
)
def test_what_could_run_code_is_seen(line: str):
    assert list(unsafe(f"def late():\n    return 1\n{line}\n"))


def test_what_could_not_is_allowed():
    lines = [
        "torch.load(path, weights_only=True)",
        "np.load(path)",
        "np.load(path, allow_pickle=False)",
        "model.eval()",
    ]
    assert not list(unsafe("\n".join(lines)))


# Every choice has something that carries it out


def test_every_name_that_is_looked_up_is_there():
    assert set(SETTINGS["optimizer"].choices) <= set(OPTIMIZERS)
    assert set(folders.KINDS) <= set(FOLDERS)


def test_every_norm_makes_another_network():
    networks = [build.build("wrn10_2", (1, 28, 28), 10, norm, seed=0) for norm in SETTINGS["norm"].choices]
    assert len({repr(network) for network in networks}) == len(networks)
    for network in networks:
        assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_every_regularizer_is_another_penalty():
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(2))
    penalties = set()
    for kind in SETTINGS["regularizer"].choices:
        with watch_penalty(network, kind) as penalty:
            # Of the ratios of gamma to sigma, one is far above 1 and one far below.
            network(torch.randn(8, 2, 4, 4) * torch.tensor([0.1, 5.0])[:, None, None])
            penalties.add(penalty().item())
    assert len(penalties) == len(SETTINGS["regularizer"].choices)


@pytest.mark.parametrize("corruption", SETTINGS["corruption"].choices)
def test_every_corruption_but_none_makes_samples_atypical(corruption: str, tmp_path: Path):
    k = 0.0 if corruption == "none" else 0.1
    trial = Trial(corruption=corruption, k=k, epochs=1, batch_size=256)
    (member,) = run(trial, tmp_path, backend="single").members
    assert member["n_out"] == round(k * 1437)  # scikit-learn's digits, less a fifth for testing
