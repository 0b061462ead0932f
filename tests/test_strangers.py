"""A package of the user's that has the name of one of ours is named, in a sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


SCRIPT = "import sys; sys.argv = ['normleak', '--help']; from analysis.cli import run; run()"
"""What the installed script does."""


@pytest.mark.parametrize(
    ("stranger", "start"),
    [
        ("study", ["-m", "sweeps", "--help"]),
        ("study", ["-m", "analysis", "--help"]),
        ("study", ["-c", SCRIPT]),
        ("sweeps", ["-m", "analysis", "--help"]),
        ("sweeps", ["-c", SCRIPT]),
    ],
)
def test_a_package_of_the_users_own_gets_a_sentence(stranger: str, start: list[str], tmp_path: Path):
    (tmp_path / f"{stranger}.py").write_text("mine = True\n")
    done = subprocess.run(
        [sys.executable, *start],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    file = tmp_path / f"{stranger}.py"
    assert done.stderr == f"error: '{stranger}' is {file} here, not normleak's: rename it, or start from elsewhere.\n"


def test_a_program_that_imports_ours_beside_its_own_gets_an_exception_that_says_so(tmp_path: Path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "__init__.py").touch()
    (tmp_path / "program.py").write_text("try:\n    import analysis\nexcept ImportError as error:\n    print(error)\n")
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert "not normleak's" in done.stdout
