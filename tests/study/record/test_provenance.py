import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_code_that_was_installed_says_its_version_and_not_the_commit_of_whoever_has_it(tmp_path: Path):
    """In a folder of somebody else's checkout, as `.venv` is in that of a project that uses normleak."""
    source = tmp_path / "source"
    for package in ("study", "sweeps", "analysis"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    project = tmp_path / "project"
    commit = [
        "-c",
        "user.name=n",
        "-c",
        "user.email=e@example.org",
        "commit",
        "--quiet",
        "--allow-empty",
        "-m",
        "their own",
    ]
    subprocess.run(["git", "init", "--quiet", project], check=True)
    subprocess.run(["git", "-C", project, *commit], check=True)
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([sys.executable, *install, "--target", project / "site", source], check=True, capture_output=True)
    said = "from study.record.provenance import provenance; p = provenance(); print(p['git_commit'], p['git_dirty'])"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(project / 'site')!r}); {said}"],
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "normleak 0.1.0 None\n"
    assert (project / "site" / "study" / "py.typed").is_file()
