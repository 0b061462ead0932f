import json
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import MNIST

from study.record.results import Results
from study.settings import SETTINGS
from study.trial import Trial
from study.worker import ENVIRONMENT
from tests.patience import wait_for
from tests.study.data.sources import encoded, write_images

ROOT = Path(__file__).parents[2]
QUICK = ("epochs=1", "k=0.1", "batch_size=128")
TRIAL = Trial(epochs=1, k=0.1, batch_size=128, norm="none", seed=(0, 1))


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What `python -m study` says, run in an empty folder of this process, where it must end with one sentence."""

    def of(*arguments: str) -> str:
        # Another test may have imported what is run here as a script.
        monkeypatch.delitem(sys.modules, "study.__main__", raising=False)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["study", *arguments])
        before = files(tmp_path)
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("study", run_name="__main__")
        said = capfd.readouterr()
        assert ended.value.code == 2
        assert re.fullmatch(r"error: [^\n]+\n", said.err)
        assert "Traceback" not in said.out
        assert [name for name in files(tmp_path) if not name.endswith(".lock")] == before
        return said.err

    return of


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    folder = tmp_path_factory.mktemp("ran")
    given = ("norm=none", "seed=1,0", "--device", "cpu", "--backend", "single", "--results", "kept", "--sweep", "mine")
    command = ("run", *QUICK, *given)
    return python("-m", "study", *command, cwd=folder), folder


# A command that does what it should


def test_run_prints_what_was_measured_of_each_member(ran):
    done, folder = ran
    assert (done.returncode, done.stderr) == (0, "")
    members = Results.at(folder / "kept").read("mine", "members").to_pylist()
    assert [member["seed"] for member in members] == [0, 1]
    for title in ("seed", "memorized", "clean", "test", "MIA AUC", "status"):
        assert title in done.stdout
    for member in members:
        shown = [member[name] for name in ("mem_acc", "true_label_acc", "clean_acc", "test_acc", "mia_auc")]
        line = rf"\W+{member['seed']}\W+" + r"\W+".join(re.escape(f"{value:.3f}") for value in shown) + r"\W+ok\W"
        assert re.search(line, done.stdout), done.stdout


def test_run_prints_which_trial_it_is_and_that_it_came_to_its_end(ran):
    for said in (TRIAL.id, str(TRIAL), "2 members", "100%"):
        assert said in ran[0].stdout


def test_results_are_written_where_the_user_said_and_nowhere_else(ran):
    done, folder = ran
    assert files(folder) == [f"kept/mine/epochs/{TRIAL.id}.parquet", f"kept/mine/members/{TRIAL.id}.parquet"]
    assert Results.at(folder / "kept").read("mine", "epochs").num_rows == 2
    assert "kept/mine" in done.stdout


def test_without_results_nothing_is_written(tmp_path, monkeypatch, capfd):
    monkeypatch.delitem(sys.modules, "study.__main__", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["study", "run", *QUICK, "--device", "cpu"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("study", run_name="__main__")
    assert not ended.value.code
    assert "ok" in capfd.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_settings_lists_every_setting_with_its_choices(tmp_path):
    done = python("-m", "study", "settings", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [re.findall(r"[\w.:]+", line) for line in done.stdout.splitlines()]
    shown = {words[0]: words[1:] for words in lines if words}
    for name in SETTINGS:
        assert set(SETTINGS[name].choices) <= set(shown[name])
    assert "0.0001" in shown["lr"]


def test_settings_are_listed_for_another_program_with_all_that_is_known_of_them(tmp_path):
    done = python("-m", "study", "settings", "--format", "json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    listed = {facts.pop("name"): facts for facts in json.loads(done.stdout)}
    assert list(listed) == list(SETTINGS)
    assert listed["alpha"] == {
        "type": "number",
        "default": 1.0,
        "choices": None,
        "forms": None,
        "range": {"low": 0.0, "high": 1.0, "with_low": False, "with_high": True},
        "unit": "fraction",
        "stage": "training",
        "description": SETTINGS["alpha"].description,
    }
    assert listed["seed"]["default"] == [0]
    assert (listed["seed"]["type"], listed["epochs"]["type"], listed["norm"]["type"]) == (
        *("integers", "integer"),
        "string",
    )
    assert listed["epochs"]["range"]["high"] is None
    assert listed["dataset"]["forms"] == ["parquet:DIR", "imagefolder:DIR"]
    assert listed["architecture"]["forms"] == ["MODULE:FACTORY"]
    # What it says is enough to make a trial of.
    assert Trial.of({name: facts["default"] for name, facts in listed.items()}).id == Trial().id


def test_a_form_of_the_list_that_there_is_not_is_refused(refusal):
    assert "unknown format 'jsn': did you mean 'json'?" in refusal("settings", "--format", "jsn")


def test_help_comes_without_waiting_for_torch(tmp_path):
    script = """
import runpy, sys
sys.argv = ["study", "--help"]
try:
    runpy.run_module("study", run_name="__main__")
except SystemExit:
    print("torch" in sys.modules)
"""
    done = python("-c", script, cwd=tmp_path)
    assert "run" in done.stdout
    assert done.stdout.endswith("\nFalse\n")


NETWORK = """
import os
from pathlib import Path
from study.networks.lenet import lenet

def network(shape, classes):
    Path("part").write_text(f"{os.getpid()} {os.environ.get('MALLOC_TOP_PAD_')} {os.environ['OMP_NUM_THREADS']}")
    Path("part").replace("found")
    return lenet(shape, classes)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "results", "said"),
    [
        (signal.SIGINT, [], "stopped\n"),
        (signal.SIGTERM, ["--results", "kept"], "stopped; the same command goes on from the last checkpoint.\n"),
    ],
)
def test_run_has_the_environment_of_a_worker_from_its_start_and_stops_at_once(tmp_path, number, results, said):
    (tmp_path / "own.py").write_text(NETWORK)
    clean = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    running = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "study",
            "run",
            "architecture=own:network",
            "epochs=1000000",
            "--device",
            "cpu",
            *results,
        ],
        cwd=tmp_path,
        env={**clean, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(tmp_path, "found")
    assert Path(f"/proc/{running.pid}/environ").read_text().count("MALLOC_TOP_PAD_=") == 1
    assert (tmp_path / "found").read_text() == f"{running.pid} {ENVIRONMENT['MALLOC_TOP_PAD_']} 1"
    running.send_signal(number)
    _, errors = running.communicate()
    assert (running.returncode, errors) == (128 + number, said)


@pytest.mark.slow
def test_a_record_is_written_before_anything_that_a_terminal_may_not_show(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "study", "run", *QUICK, "norm=none", "--device", "cpu", "--results", "kept"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "gamma/sigma" in done.stdout
    assert list((tmp_path / "kept" / "trials" / "members").glob("*.parquet"))


# A command that can't


def test_bad_input_ends_the_command_with_code_2_and_one_sentence(tmp_path):
    done = python("-m", "study", "run", "nom=none", "--results", "kept", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: unknown setting 'nom': did you mean 'norm'?\n"
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["norm=non"], "unknown norm 'non': did you mean 'none'?"),
        (["dataset=mnits"], "did you mean 'mnist'?"),
        (["k=1"], "k must be in [0, 1), not 1."),
        (["k=nan"], "k takes a number, not 'nan'."),
        (["k=0.1,0.2"], "one trial has one k"),
        (["norm"], "'norm' is not of the form KEY=VALUE."),
        (["seed=0,0"], "seed must be one or more different whole numbers"),
        (["seed=" + "9" * 400], "seed"),
        (["dataset=parquet:nowhere"], "there is no dataset folder '"),
        (["dataset=imagefolder:~there-is-no-such-user/data"], "there-is-no-such-user"),
        (["epochs=1", "--results", "gopher://x"], "'gopher://x' can't be opened"),
        # Too small a k is seen only when the data is there.
        (["epochs=1", "k=0.0001", "--device", "cpu"], "k=0.0001 corrupts none of 1437 samples"),
        (["epochs=1", "--device", "gpu"], "unknown device 'gpu': choose cpu, cuda, cuda:N or auto."),
        (["epochs=1", "--device", "gpu", "--results", "kept"], "unknown device 'gpu'"),
        (["epochs=1", "--device", "cuda:99"], "there is no device 'cuda:99' here"),
        (["epochs=1", "--device", "meta"], "'meta'"),
        (["epochs=1", "--device", "xla"], "'xla'"),
        (["--devise", "cpu"], "--devise"),
        (["--device"], "--device"),
    ],
    ids=lambda value: value[-1][:40] if isinstance(value, list) else "",
)
def test_bad_input_gets_one_sentence_and_leaves_nothing_behind(refusal, arguments, said):
    assert said in refusal("run", *arguments)


def test_a_command_that_does_not_exist_is_refused(refusal):
    assert "'ruin'" in refusal("ruin")


def test_a_dataset_folder_with_odd_characters_is_named_as_it_is(refusal, tmp_path):
    folder = tmp_path / "a [red]b[" / "c]"
    folder.mkdir(parents=True)
    (folder / "train-0.parquet").write_bytes(b"no Parquet")
    assert f"'{folder}' holds no test-*.parquet" in refusal("run", f"dataset=parquet:{folder}", "epochs=1")


def test_a_dataset_of_one_class_is_refused_before_training(refusal, tmp_path):
    for path in write_images(tmp_path / "cats").glob("*/dog"):
        shutil.rmtree(path)
    message = refusal("run", f"dataset=imagefolder:{tmp_path / 'cats'}", "epochs=1000000", "--device", "cpu")
    assert "cats has a single class; a classifier needs two or more." in message


def test_what_a_dataset_folder_holds_is_said_before_training(tmp_path, capfd, monkeypatch):
    folder = write_images(tmp_path / "pets")
    monkeypatch.delitem(sys.modules, "study.__main__", raising=False)
    monkeypatch.setattr("study.run.run", lambda *_, **__: sys.exit(7))
    monkeypatch.setattr(sys, "argv", ["study", "run", f"dataset=imagefolder:{folder}", "--device", "cpu"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("study", run_name="__main__")
    assert ended.value.code == 7
    assert ": 4 training images in train and 4 test images in test, 2 classes (cat, dog); " in capfd.readouterr().out


def test_how_far_the_clip_of_the_papers_attacks_moves_images_is_shown(tmp_path, capfd, monkeypatch):
    white = encoded(np.full((8, 8, 3), 255, np.uint8))
    folder = write_images(tmp_path / "white", contents=[white] * 8)
    monkeypatch.delitem(sys.modules, "study.__main__", raising=False)
    arguments = [f"dataset=imagefolder:{folder}", "standardize=paper2019_cifar10"]
    monkeypatch.setattr(sys, "argv", ["study", "clip", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("study", run_name="__main__")
    assert ended.value.code in (0, None)
    said = capfd.readouterr().out
    # White is (1 - 0.4914) / 0.2023 = 2.51 in red, 2.60 in green and 2.75 in blue.
    assert "2.51 to 2.75" in said
    beyond = np.sqrt(64 * sum((np.array([0.5086 / 0.2023, 0.5178 / 0.1994, 0.5535 / 0.2010]) - 2) ** 2))
    assert f"{beyond:.2f}, {beyond:.2f}" in said
    assert said.count("100.0%") == 3


def test_a_clip_that_there_is_not_is_refused(refusal):
    assert "on digits clip nothing" in refusal("clip", "dataset=digits")
    assert "name a standardization" in refusal("clip", "dataset=digits", "standardize=none")


def test_results_that_can_not_be_written_are_refused_before_training(refusal, tmp_path):
    (tmp_path / "file").write_text("no folder")
    # Of a million epochs, only a refusal that comes first comes at all.
    message = refusal("run", "epochs=1000000", "--results", "file/kept", "--device", "cpu")
    assert "results can't be written to" in message


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine that is taken, and where nobody answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_a_dataset_that_is_neither_here_nor_to_be_had_gets_one_sentence(refusal, closed_port, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{closed_port}/"])
    message = refusal("run", "dataset=mnist", "epochs=1", "--data-dir", "mine", "--device", "cpu")
    assert "MNIST is not in 'mine'" in message
    assert "--data-dir" in message
