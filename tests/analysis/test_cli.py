import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

import analysis.__main__
import study.__main__
import sweeps.__main__
from analysis import cli

PARTS = (study.__main__.app, sweeps.__main__.app, analysis.__main__.app)


def test_every_command_of_the_three_modules_is_there_once():
    ours = get_command(cli.combined()).commands
    theirs = [name for part in PARTS for name in get_command(part).commands]
    assert len(ours) == len(theirs)
    assert {"trial", "run", "bench", "bench-ray", "bench-analysis", "cluster"} <= set(ours)
    assert set(theirs) <= set(ours)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "tables"),
        (["plan", "quickstart", "--set", "seed=0"], 0, "4 trials, 4 members"),
        (["trial", "nrom=none"], 2, "error: unknown setting 'nrom': did you mean 'norm'?"),
        (["tabels"], 2, "tabels"),
    ],
)
def test_a_command_does_what_that_of_its_module_does(arguments: list[str], code: int, said: str, tmp_path: Path):
    """As the script is installed: it calls `run`, from any folder."""
    script = "import sys; from analysis.cli import run; sys.argv[0] = 'normleak'; run()"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(cli.__file__).parents[1]), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done.stdout + done.stderr


def test_help_comes_without_torch_and_ray():
    code = "import sys, analysis.cli; analysis.cli.combined(); print({'torch', 'ray'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
