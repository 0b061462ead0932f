import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from study.errors import BadInputError
from study.worker import ENVIRONMENT
from sweeps.launch import environment
from sweeps.launch.cluster import connect
from sweeps.launch.launch import Cluster
from tests.ray_runs import ROOT
from tests.test_layering import SOURCES, imported

WITH_RAY = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in SOURCES
    if path.is_relative_to(ROOT / "sweeps") and "ray" in set(imported(path))
]
FIRST_IMPORT = """
import json, os, sys

class Watch:
    def find_spec(name, path=None, target=None):
        if name == "ray":
            print(json.dumps({**os.environ, "pid": str(os.getpid())}), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Watch)
"""
"""Has the first import of Ray print the environment, and end the process, so that Ray isn't really loaded."""


def python(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run the code in a fresh Python, in whose environment nobody has set anything for Ray."""
    names = {*environment.RAY_ENVIRONMENT, *ENVIRONMENT, "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
    clean = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**clean, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("module", [*WITH_RAY, "sweeps.tuning.search", "sweeps.tuning.stages"])
def test_whichever_module_is_imported_first_ray_finds_its_environment(module: str, tmp_path: Path):
    done = python(f"{FIRST_IMPORT}\nimport {module}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout, f"{module} doesn't import Ray"
    found = json.loads(done.stdout)
    where_unset = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    expected = {**environment.RAY_ENVIRONMENT, **where_unset, **ENVIRONMENT, "RAY_RAYLET_PID": found["pid"]}
    assert {name: found.get(name) for name in expected} == expected
    assert len(found["RAY_AUTH_TOKEN"]) == 64
    assert list(tmp_path.iterdir()) == [], "the token lies in a file"


def test_what_the_user_has_set_stays(tmp_path: Path):
    code = "import os; os.environ.update(RAY_AUTH_MODE='disabled', RAY_USAGE_STATS_ENABLED='1', RAY_AUTH_TOKEN='mine')"
    done = python(f"{code}{FIRST_IMPORT}\nimport sweeps.launch.cluster", tmp_path)
    found = json.loads(done.stdout)
    names = ("RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED", "RAY_AUTH_TOKEN")
    assert [found[name] for name in names] == ["disabled", "1", "mine"]


@pytest.mark.parametrize(
    ("before", "refused"),
    [
        ("import ray", True),
        ("import os; os.environ['RAY_AUTH_MODE'] = 'token'; import ray", False),
        ("import sweeps.launch; import ray", False),
    ],
)
def test_a_process_that_imported_ray_too_early_is_refused_before_anything_starts(
    before: str, refused: bool, tmp_path: Path
):
    stub = "import sys, types; sys.modules['ray'] = types.ModuleType('ray')"
    check = "from sweeps.launch import environment; environment.check_import_order()"
    done = python(f"{before.replace('import ray', stub)}\n{check}", tmp_path)
    assert ("BadInputError: Ray was imported before sweeps.launch" in done.stderr) == refused
    assert (done.returncode != 0) == refused, done.stderr


def test_connecting_says_what_to_do_where_ray_was_imported_too_early(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(environment, "RAY_CAME_FIRST", True)
    remedy = r"import sweeps\.launch first, or set RAY_AUTH_MODE=token"
    with pytest.raises(BadInputError, match=remedy), connect(Cluster()):
        pass
