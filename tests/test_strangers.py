"""A package of the user's that has the name of one of ours is named, in a sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("module", ["sweeps", "analysis"])
def test_a_study_of_the_users_own_gets_a_sentence(module: str, tmp_path: Path):
    (tmp_path / "study.py").write_text("mine = True\n")
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == f"error: 'study' is {tmp_path}/study.py here, not normleak's: rename it, or start from elsewhere.\n"
    )


def test_a_program_that_imports_ours_beside_its_own_gets_an_exception_that_says_so(tmp_path: Path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "__init__.py").touch()
    (tmp_path / "program.py").write_text("try:\n    import analysis\nexcept ImportError as error:\n    print(error)\n")
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert "not normleak's" in done.stdout
