import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.__main__ import app as analysis_app
from study.data import folders
from study.record import schema
from study.record.results import Results
from study.record.rows import failed
from study.run import run as train
from study.storage.store import LocalStore
from study.terminal import main
from study.trial import Trial
from sweeps import registry
from sweeps.__main__ import app
from sweeps.estimate import flops
from sweeps.lock import exclusive
from sweeps.parts import Part
from sweeps.plan import Plan
from sweeps.sweep import Scale, Sweep, product
from sweeps.tuning import space
from tests.patience import wait_for, wait_for_end
from tests.ray_runs import ROOT, TINY, Command, command, ray_head
from tests.study.data.sources import write_images

PROVENANCE = ["seconds", "started", "git_commit", "git_dirty", "versions"]


def test_list_shows_every_sweep_with_its_size_and_cost_at_both_scales(sweeps: Command):
    done = sweeps("list")
    assert done.returncode == 0
    assert all(f"│ {name} " in done.stdout for name in registry.SWEEPS)
    assert done.stdout.count(" members ") == 2 * len(registry.SWEEPS)
    assert done.stdout.count(" core-hours ") == done.stdout.count(" device-hours ") == len(registry.SWEEPS)
    assert "1,200 members" in done.stdout


def test_a_plan_shows_every_trial_and_writes_nothing(sweeps: Command, tmp_path: Path):
    done = sweeps("plan", "quickstart", "--set", "k=0.1,0.2,0.4", "--results", tmp_path / "none")
    assert done.returncode == 0
    assert done.stdout.count("│ missing") == 6
    # Seconds on an idle machine, minutes where it is timed on a busy one.
    assert len(re.findall(r"\d (?:s|min|h) +│ missing", done.stdout)) == 6
    assert done.stdout.startswith("quickstart at quick scale: lr 0.001, epochs 30, batches of 64\n")
    assert "core-hours" in done.stdout
    assert "6 trials, 30 members: 0 done, 6 missing" in done.stdout
    assert list(tmp_path.iterdir()) == []


def faultless(folder: Path) -> str:
    """A dataset of two classes beside whose images lies another file."""
    write_images(folder)
    (folder / "train" / "cat" / "notes.txt").write_text("seen in May")
    return f"imagefolder:{folder}"


def of_one_class(folder: Path) -> str:
    for path in write_images(folder).glob("*/dog"):
        shutil.rmtree(path)
    return f"imagefolder:{folder}"


def said(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """What a command prints that does what it should."""
    monkeypatch.setattr(sys, "argv", ["sweeps", *arguments])
    with pytest.raises(SystemExit) as ended:
        main(app, "python -m sweeps")
    assert not ended.value.code
    return capfd.readouterr().out


def test_a_plan_says_what_a_folder_holds_what_is_taken_and_what_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    dataset = faultless(tmp_path / "pets")
    axes = ["--set", f"dataset={dataset}", "--results", str(tmp_path / "none")]
    told = said(capfd, monkeypatch, "plan", "quickstart", *axes)
    (line,) = [line for line in told.splitlines() if line.startswith("imagefolder:")]
    assert line == (
        f"{folders.identity(dataset)}: 4 training images in train and 4 test images in test, 2 classes (cat, dog); "
        "classes in the order of their folders' names; skipped: train/cat/notes.txt"
    )


def test_a_plan_says_what_a_folder_of_other_images_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """It may have a single class, for its labels are of no account."""
    ood = of_one_class(tmp_path / "cats")
    axes = [part for axis in ("corruption=ood", f"ood={ood}") for part in ("--set", axis)]
    told = said(capfd, monkeypatch, "plan", "quickstart", *axes, "--results", str(tmp_path / "none"))
    assert f"{folders.identity(ood)}: 2 training images" in told


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_dataset_of_one_class_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], command: str
):
    axes = ["--set", f"dataset={of_one_class(tmp_path / 'cats')}", "--results", str(tmp_path / "results")]
    assert "cats has a single class; a classifier needs two or more." in refused(
        capfd, monkeypatch, app, command, "quickstart", *axes
    )


@pytest.mark.slow
def test_a_plan_says_when_so_many_workers_would_be_done(sweeps: Command, tmp_path: Path):
    workers = ("--workers", "1", "--workers", "4096", "--teraflops", "10")
    done = sweeps("plan", "ablation", "--scale", "paper", "--results", tmp_path, *workers)
    assert done.returncode == 0
    (hours,) = re.findall(r"missing: ([\d,]+) device-hours", done.stdout)
    (days,) = re.findall(r"on 1 worker: ([\d,]+) days, 100% of that at work", done.stdout)
    assert int(days.replace(",", "")) == pytest.approx(int(hours.replace(",", "")) / 24, abs=1)
    # One each: the longest trial, of the largest network, says when.
    longest = flops(Trial(dataset="cifar10", architecture="resnet34", epochs=200, seed=(0, 1, 2, 3, 4))) / 1e13 / 3600
    assert f"on 4096 workers: {longest:.1f} h" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "quickstrat"], "did you mean 'quickstart'?"),
        (["run", "quickstart", "--set", "norms=none"], "unknown setting 'norms': did you mean 'norm'?"),
        (["run", "quickstart", "--set", "norm=non"], "unknown norm 'non': did you mean 'none'?"),
        (["run", "quickstart", "--set", "dataset=digit"], "did you mean 'digits'?"),
        (["run", "quickstart", "--set", "k=1"], "k must be in [0, 1), not 1."),
        pytest.param(["run", "quickstart", "--set", "k=1e-5"], "corrupts none of 1437 samples", marks=pytest.mark.slow),
        (["run", "quickstart", "--set", "k"], "'k' is not of the form KEY=VALUE."),
        (["run", "quickstart", "--set", "dataset=parquet:nowhere"], "there is no dataset folder"),
        (["run", "quickstart", "--scale", "huge"], "'quick', 'paper'"),
        (["run", "quickstart", "--fraction", "0.4"], "such as 0.25, not 0.4."),
        (["run", "quickstart", "--shard", "a/b"], "a shard is I/N, such as 2/4 for the second of four, not 'a/b'."),
        (["run", "quickstart", "--shard", "0/4"], "there is no shard 0/4: they are numbered from 1"),
        (["run", "quickstart", "--shard", "5/4"], "there is no shard 5/4"),
        (["run", "quickstart", "--set", "corruption=ood", "--set", "ood=digits"], "needs another dataset"),
        (["run", "quickstart", "--set", "architecture=vit"], "use norm=layer, none or rms."),
        pytest.param(["run", "quickstart", "--set", "architecture=nowhere:network"], "nowhere", marks=pytest.mark.slow),
        pytest.param(["run", "quickstart", "--device", "cuda"], "there is no cuda", marks=pytest.mark.slow),
        (["plan", "quickstart", "--set", "epochs=1.5"], "epochs takes a whole number, not '1.5'."),
        (["status", "quickstart"], "start it with `python -m sweeps run quickstart --results /"),
        (["retry", "quickstart"], "has no plan of quickstart"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_no_record(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
):
    results = tmp_path / "results"
    monkeypatch.setattr(sys, "argv", ["sweeps", *arguments, "--results", str(results)])
    with pytest.raises(SystemExit) as ended:
        main(app, "python -m sweeps")
    errors = capfd.readouterr().err
    assert ended.value.code == 2
    assert errors.startswith("error: ")
    assert sentence in errors
    assert errors.count("\n") == 1
    assert not [path for path in results.rglob("*") if path.is_file()]


def test_a_sweep_that_is_not_in_the_folder_names_the_nearest_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    axes = product(k=0.1)
    Sweep("wide_digits", "?", "nothing", quick=(axes,), paper=(axes,)).plan(Scale.quick).save(Results.at(tmp_path))
    said = refused(capfd, monkeypatch, app, "status", "wide_digit", "--results", str(tmp_path))
    assert "did you mean 'wide_digits'?" in said


def refused(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, app: Any, *arguments: str) -> str:
    """What a command says that ends in one sentence and with code 2."""
    monkeypatch.setattr(sys, "argv", ["python", *arguments])
    with pytest.raises(SystemExit) as ended:
        main(app, "python")
    errors = capfd.readouterr().err
    assert (ended.value.code, errors.count("\n")) == (2, 1), errors
    return errors


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with someone's results, whose plan asks for a network of a module that leaves a file when imported."""
    (tmp_path / "evil_network.py").write_text("open('imported', 'w').close()\nraise OSError('mine')")
    axes = product(architecture="evil_network:network", regularizer="log", alpha=0.5, k=0.1)
    sweep = Sweep("quickstart", "?", "nothing", quick=(axes,), paper=(axes,))
    sweep.plan(Scale.quick).save(Results.at(tmp_path / "results"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.mark.slow
def test_a_plan_imports_no_network_that_its_user_has_not_named(
    foreign: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "argv", ["python", "status", "quickstart"])
    with pytest.raises(SystemExit) as ended:
        main(app, "python")
    assert not ended.value.code
    assert "1 missing" in capfd.readouterr().out
    for verb in ("tables", "compare", "figures", "amplification", "membership"):
        assert "retry quickstart" in refused(capfd, monkeypatch, analysis_app, verb, "results")
    for others in ([], ["--architecture", "another:network"]):
        said = refused(capfd, monkeypatch, app, "retry", "quickstart", *others)
        assert "yours to run, add --architecture evil_network:network" in said
    assert not (foreign / "imported").exists()

    said = refused(capfd, monkeypatch, app, "retry", "quickstart", "--architecture", "evil_network:network", "--yes")
    assert "module evil_network can't be imported: OSError: mine" in said
    assert (foreign / "imported").exists()


@pytest.mark.parametrize("verb", ["run", "retry", "status", "compact"])
@pytest.mark.parametrize("later", ["plan", "shard"])
def test_a_folder_of_a_later_version_is_refused_and_left_as_it_is(
    verb: str, later: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    results, plan = Results.at(tmp_path / "results"), registry.sweep("quickstart").plan(Scale.quick)
    with monkeypatch.context() as patched:
        patched.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION + 1)
        if later == "shard":
            row = {"trial": plan.trials[0].id, "member": 0, "cell": plan.trials[0].cell, "seed": 0, "status": "ok"}
            results.write("quickstart", plan.trials[0].id, {"members": [row]})
        else:
            plan.save(results)
    if later == "shard":
        plan.save(results)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    said = refused(capfd, monkeypatch, app, verb, "quickstart", "--results", results.location)
    assert f"has schema version {schema.SCHEMA_VERSION + 1}, this normleak reads {schema.SCHEMA_VERSION}" in said
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_sweep_that_is_not_finished_is_compacted_and_one_that_is_not_there_is_not(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    results, plan = Results.at(tmp_path), registry.sweep("quickstart").plan(Scale.quick)
    plan.save(results)
    for trial in plan.trials[:2]:
        results.write("quickstart", trial.id, failed(trial, "out of luck").tables)
    before = str(plan.state(results))
    assert before == "0 done, 2 missing, 2 failed, 0 diverged"
    app(["compact", "quickstart", "--results", results.location], standalone_mode=False)
    assert "2 shards are now 1 file\n" in capfd.readouterr().out
    assert str(plan.state(results)) == before
    said = refused(capfd, monkeypatch, app, "compact", "quickstrat", "--results", results.location)
    assert "did you mean 'quickstart'?" in said


def test_a_compaction_that_fails_is_said_at_the_end_of_the_run_with_the_command_that_tries_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    recorded(tmp_path)
    monkeypatch.setattr(LocalStore, "many", 4)
    in_the_way = tmp_path / "quickstart" / "compact"
    in_the_way.touch()  # a file where the folder would be made: this stops root as well
    app(["run", "quickstart", "--results", str(tmp_path)], standalone_mode=False)
    *_, last = capfd.readouterr().out.splitlines()
    assert re.match(r"they are safe, but could not be compacted: .*exists.*; again: python -m sweeps compact", last)
    in_the_way.unlink()
    app(shlex.split(last.rpartition("python -m sweeps ")[2]), standalone_mode=False)
    assert "4 shards are now 1 file\n" in capfd.readouterr().out


def test_a_tuning_compacts_all_its_records_and_says_of_which_it_could_not(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sweeps.__main__.run_tunings", lambda *_: None)
    monkeypatch.setattr(LocalStore, "many", 2)
    results, sweeps = Results.at(tmp_path), (*space.SEARCHES.values(), space.CONFIRM)
    for sweep in sweeps:
        for trial in space.cells({}, 2, False)[0].references:
            results.write(sweep, trial.id, failed(trial, "RuntimeError: it broke").tables)
    (tmp_path / space.CONFIRM / "compact").touch()  # a file where the folder would be made: this stops root as well
    app(["tune", "regularizer", "--results", str(tmp_path)], standalone_mode=False)
    said = [line for line in capfd.readouterr().out.splitlines() if "could not be compacted" in line]
    assert len(said) == 1
    assert f"; again: python -m sweeps compact {space.CONFIRM} --results" in said[0]
    for sweep in sweeps:
        assert bool(list((tmp_path / sweep / "members").glob("*-*"))) == (sweep != space.CONFIRM), sweep


@pytest.mark.parametrize("many", [4, 5])
def test_the_shard_after_which_nothing_is_missing_names_the_compaction_that_shards_leave_out(
    many: int, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    plan = recorded(tmp_path)
    monkeypatch.setattr(LocalStore, "many", many)
    for state in ("missing", "failed"):
        shard = tmp_path / "quickstart" / "members" / f"{plan.trials[0].id}.parquet"
        if state == "missing":
            shard.rename(tmp_path / "elsewhere")
        else:
            (tmp_path / "elsewhere").rename(shard)
        others = next(number for number in (1, 2) if plan.trials[0] not in Part(number, 2).of(plan).trials)
        app(["run", "quickstart", "--results", str(tmp_path), "--shard", f"{others}/2"], standalone_mode=False)
        named = "python -m sweeps compact quickstart --results" in capfd.readouterr().out
        assert named == (state == "failed" and many == 4)


WHOLE = Part(1, 1)


def recorded(folder: Path, part: Part = WHOLE) -> Plan:
    """The quickstart with a record of each trial of that part, none of which was trained."""
    results, plan = Results.at(folder), registry.sweep("quickstart").plan(Scale.quick)
    plan.save(results)
    for trial in part.of(plan).trials:
        results.write("quickstart", trial.id, failed(trial, "out of luck").tables)
    return plan


def test_bad_input_ends_the_command_itself_with_code_2(sweeps: Command):
    done = sweeps("run", "quickstrat")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: unknown sweep 'quickstrat': did you mean 'quickstart'?\n"


def test_results_that_cannot_be_written_are_refused_before_anything_runs(sweeps: Command, tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    done = sweeps("run", "quickstart", *TINY, "--results", tmp_path / "file" / "results")
    assert done.returncode == 2
    assert done.stderr.startswith("error: results can't be written to")
    assert (tmp_path / "file").read_text() == "mine"


def side_by_side(results: str | Path, *arguments: str) -> list[str]:
    """What two shards of the quickstart print that run at once on a worker each; both are to end well."""
    shards = [
        subprocess.Popen(
            command("sweeps", "run", "quickstart", *arguments, "--shard", f"{number}/2", "--results", results),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        for number in (1, 2)
    ]
    try:
        printed = [shard.communicate()[0] for shard in shards]
    finally:
        for shard in shards:
            shard.kill()
    assert [shard.returncode for shard in shards] == [0, 0], printed
    return printed


@pytest.mark.slow
@pytest.mark.ray
def test_two_shards_at_once_train_the_plan_between_them_and_each_trial_once(sweeps: Command, tmp_path: Path):
    printed = side_by_side(tmp_path / "results", *TINY, "--backend", "single")
    for number, text in enumerate(printed, 1):
        assert "about to run 2 trials, 4 members" in text
        assert (
            f"quickstart, shard {number}/2: 2 done, 0 missing, 0 failed, 0 diverged; the whole sweep: 4 trials" in text
        )
    status = sweeps("status", "quickstart", "--results", tmp_path / "results").stdout
    assert status == "quickstart: 4 trials, 8 members: 4 done, 0 missing, 0 failed, 0 diverged\n"
    plan, alone = Plan.saved("quickstart", Results.at(tmp_path / "results")), Results.at(tmp_path / "alone")
    assert plan is not None
    for trial in plan.trials:
        alone.write("quickstart", trial.id, train(trial, Path(), backend="single").tables)
    assert_same_science(Results.at(tmp_path / "results"), alone)
    assert not list((tmp_path / "results" / "quickstart" / "leases").iterdir())

    again = sweeps("run", "quickstart", *TINY, "--shard", "2/2", "--results", tmp_path / "results")
    assert again.returncode == 0
    assert "about to run" not in again.stdout


def test_what_a_shard_does_not_run_is_not_missing_to_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recorded(tmp_path, Part(3, 4))
    app(["run", "quickstart", "--results", str(tmp_path), "--shard", "3/4"], standalone_mode=False)
    said = capsys.readouterr().out
    assert "quickstart, shard 3/4: 1 trial, 5 members: 0 done, 0 missing, 1 failed, 0 diverged\n" in said
    whole = "the whole sweep: 4 trials, 20 members: 0 done, 3 missing, 1 failed, 0 diverged"
    assert f"quickstart, shard 3/4: 0 done, 0 missing, 1 failed, 0 diverged; {whole}\n" in said


def descendants(process: int) -> list[int]:
    """The process and all that it has started, and those that these have."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [process]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize(
    ("number", "everyone", "after"),
    [
        pytest.param(signal.SIGINT, False, "members", id="ctrl_c"),
        pytest.param(signal.SIGTERM, False, "plans", id="kubernetes"),
        pytest.param(signal.SIGTERM, True, "members", id="slurm"),
    ],
)
def test_ctrl_c_and_sigterm_stop_cleanly_and_say_how_to_go_on(
    number: signal.Signals, everyone: bool, after: str, tmp_path: Path
):
    """After the first record, or the plan. Slurm signals all processes of a job step; here Ray's own come first."""
    results = tmp_path / "results"
    driver = subprocess.Popen(
        command("sweeps", "run", "quickstart", *TINY, "--backend", "single", "--results", results),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(results / "quickstart" / after, "*")
        processes = descendants(driver.pid)
        for process in reversed(processes) if everyone else [driver.pid]:
            with suppress(ProcessLookupError):
                os.kill(process, number)
        out, errors = driver.communicate()
    finally:
        driver.kill()
    assert driver.returncode == 128 + number, out + errors
    assert "stopped; the same command goes on where it was." in out
    assert errors == ""
    assert not (results / "quickstart" / "lease.json").exists()
    wait_for_end(processes)
    with exclusive(Results.at(results), "quickstart"):
        pass  # whoever comes next may run it
    plan = Plan.saved("quickstart", Results.at(results))
    assert plan is not None
    assert len(plan.trials) == 4


TELLS_ITS_CODE = """
import sys
from sweeps.__main__ import app, main

try:
    main(app, "python -m sweeps")
except SystemExit as error:
    print("code", error.code)
"""
STARTS_IT = "import subprocess, sys; print('code', subprocess.run(sys.argv[1:]).returncode)"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("first", ["who started it", "Ray"])
def test_a_run_whose_ray_slurm_ends_as_well_says_how_to_go_on(first: str, tmp_path: Path):
    """As under `ray symmetric-run`. Ray would end a process at once that has lost both the raylet and its parent.

    Where all of Ray has gone before, calls of it wait, by default for a minute, hear of no signal, and then end the
    process. It may also end it at once, where it had an object to store.
    """
    results, sentence = tmp_path / "results", "; the same command goes on where it was.\n"
    with ray_head("--num-cpus=1", "--include-dashboard=false") as head:
        where = ("--backend", "single", "--results", str(results), "--address", head.address)
        starter = subprocess.Popen(
            [sys.executable, "-c", STARTS_IT, sys.executable, "-c", TELLS_ITS_CODE, "run", "quickstart", *TINY, *where],
            cwd=ROOT,
            env=head.environment | {"RAY_gcs_rpc_server_reconnect_timeout_s": "10"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        try:
            wait_for(results / "quickstart" / "members", "*")
            joined, (parent, *run) = descendants(head.process), descendants(starter.pid)
            terminate([*([] if first == "Ray" else [parent]), *reversed(joined)])
            if first == "Ray":
                wait_for_end(joined)
            terminate(run)
            out, errors = starter.communicate()  # until the run has ended too
        finally:
            starter.kill()
    assert sentence in out + errors, out + errors
    # Where it has ended wherever it was, or was ended by Ray, it could not tell its code itself.
    assert "code 143\n" in out or errors.endswith(sentence), out + errors


def terminate(processes: list[int]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)


def assert_same_science(results: Results, expected: Results) -> None:
    """The same members, each once, with the same settings and results to the last bit."""
    for table in ("members", "epochs"):
        keys = ["trial", "member"] + (["epoch"] if table == "epochs" else [])
        frames = [
            where.read("quickstart", table).to_pandas().sort_values(keys, ignore_index=True)
            for where in (results, expected)
        ]
        assert not frames[0].duplicated(keys).any()
        kept = [name for name in frames[0].columns if name not in PROVENANCE]
        pd.testing.assert_frame_equal(frames[0][kept], frames[1][kept], check_exact=True)
