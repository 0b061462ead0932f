"""A machine with a GPU need have little more than torch for the tests of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.absent import without

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_tests_of_a_gpu_are_collected_where_neither_the_store_of_the_tests_nor_ray_is_installed():
    code = without("moto", "werkzeug", "flask", "boto3", "ray") + (
        "import pytest\n"
        "sys.exit(pytest.main(['-m', 'gpu', '--collect-only', '-n', '0', '-p', 'no:cacheprovider', *sys.argv[1:]]))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTEST_XDIST_WORKER", None)
    command = [sys.executable, "-c", code, "tests/study"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    files = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    marked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests/study").rglob("test_*.py")
        if "pytest.mark.gpu" in path.read_text()
    }
    assert files == marked
    assert "tests/study/engine/test_cuda_graphs.py" in files
