import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from analysis.__main__ import app
from study.record.results import Results
from study.terminal import main
from sweeps.registry import SWEEPS
from sweeps.sweep import Scale
from tests.analysis import planted, robust
from tests.analysis.conftest import frame, grid, plan, plausible, record, shard
from tests.analysis.planted import plan as plan_of
from tests.analysis.planted import write as write_planned
from tests.analysis.statistics import test_membership as halves
from tests.analysis.tuning import test_tradeoff as tuned

ROOT = Path(__file__).parents[2]
GRID = grid(k=(0, 0.1, 0.3), norm=("batch", "none"), seed=range(3))


def python(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`python -m analysis` as a user runs it, on a pipe."""
    command = [sys.executable, "-m", "analysis", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def complete(results: Results) -> Results:
    """Six trials of three members of a sweep `mine`."""
    plan(results, GRID)
    record(results, GRID)
    return results


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Callable[..., tuple[int, str, str]]:
    """The same command line in this process: its exit code and what it says on both streams."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["analysis", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main(app, "python -m analysis")
        said = capfd.readouterr()
        return ended.value.code or 0, said.out, said.err

    return run


@pytest.fixture
def refusal(command: Callable[..., tuple[int, str, str]]) -> Callable[..., str]:
    """What the command says of bad input: one line on standard error and nothing else."""

    def of(*arguments: str | Path) -> str:
        code, out, err = command(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        return err

    return of


# On a pipe, as a user would


def test_tables_prints_every_cell(complete: Results):
    done = python("tables", complete)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("mine: dataset=digits architecture=lenet, 18 members, mean ± sd over seeds")
    lines = [[cell.strip() for cell in line.split("│")] for line in done.stdout.splitlines()]
    members = frame(GRID)
    for (k, norm), cell in members.groupby(["k", "norm"]):
        (line,) = [line for line in lines if line[1:3] == [f"{k:g}", norm]]
        shown = [
            "-" if k == 0 and name.startswith(("mem", "true")) else f"{cell[name].mean():.3f} ± {cell[name].std():.3f}"
            for name in ("mem_acc", "true_label_acc", "clean_acc", "test_acc", "mia_auc")
        ]
        assert line[3:-1] == [*shown, "3", "0"]
    assert "…" not in done.stdout


def test_compare_prints_every_test(complete: Results):
    done = python("compare", complete, "--factor", "norm")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("mine: norm, paired tests over seeds")
    # Of five metrics, the true label is the one that normalization is held to make less.
    assert done.stdout.count("batch > none") == 4 * 4
    assert done.stdout.count("batch < none") == 4
    assert "…" not in done.stdout


def test_figures_prints_where_the_figures_and_the_records_are(complete: Results):
    done = python("figures", complete)
    assert (done.returncode, done.stderr) == (0, "")
    folder = Path(complete.location) / "mine" / "figures"
    assert done.stdout.splitlines()[-5:-1] == [
        f"figure: {folder}/memorization.png",
        f"figure: {folder}/memorization.pdf",
        f"figure: {folder}/memorization.svg",
        f"records: {complete}/mine",
    ]
    with Image.open(folder / "memorization.png") as image:
        assert min(image.size) > 300


def test_bad_input_ends_the_command_with_code_2_and_one_sentence(complete: Results):
    done = python("compare", complete, "--factor", "nrom")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: unknown factor 'nrom': did you mean 'norm'?\n"


# Options


def test_tables_wider_than_the_pipe_lose_nothing(results: Results, command):
    one = {"optimizer": "rmsprop", "weight_decay": 1e-4, "lr": 0.00025, "batch_size": 32, "epochs": 10, "eval_every": 2}
    trials = grid(norm=("instance", "none"), seed=(0, 1), **one) + grid(norm=("instance", "none"), seed=(0, 1))
    plan(results, trials)
    record(results, trials)
    for verb in ("tables", "compare"):
        code, out, err = command(verb, results)
        assert (code, err) == (0, "")
        assert "…" not in out
        for value in ("instance", "rmsprop", "0.0001", "0.00025", "32", "10", "2"):
            assert value in out


def test_a_partial_grid_says_how_much_is_missing(complete: Results, command):
    shard(complete, GRID[3]).unlink()
    for arguments in (["tables"], ["compare", "--factor", "norm"], ["figures"]):
        code, out, err = command(*arguments, complete.location, "--partial")
        assert (code, err) == (0, "")
        assert out.splitlines()[-2] == f"mine: 3 of 18 planned members are missing, of [{GRID[3]}]."


def test_every_sweep_is_shown_unless_one_is_named(complete: Results, command):
    plan(complete, GRID[2:], "another")
    record(complete, GRID[2:], sweep="another")
    assert [line.split(":")[0] for line in command("tables", complete)[1].splitlines() if "members" in line] == [
        "another",
        "mine",
    ]
    assert "another" not in command("tables", complete, "--sweep", "mine")[1]


@pytest.mark.slow
def test_the_audit_prints_every_attack_and_where_its_figures_are(complete: Results, command, tmp_path: Path):
    halves.write(complete, *halves.TRIALS, sweep="halves")
    code, out, _ = command("membership", complete, "--figures", tmp_path / "figures", "--attack", "rmia_online")
    assert code == 0
    assert out.count("rmia_online") == 2 * 3 + 3
    assert "batch - none" in out
    assert files(tmp_path / "figures") == sorted(
        f"{name}.{suffix}" for name in ("counterfactual", "most_memorized", "roc") for suffix in ("pdf", "png", "svg")
    )


@pytest.mark.slow
def test_the_tradeoff_prints_every_table_and_where_its_figures_are(results: Results):
    tuned.everything(results)
    done = python("tradeoff", results, "--max-accuracy-loss", "0.01")
    assert (done.returncode, done.stderr) == (0, "")
    for said in (
        "dataset=digits architecture=lenet k=0.1, front of 6 settings, 1 of which failed or diverged",
        "Recommended, with at most 0.01 below norm=batch's validation accuracy of 0.935: regularizer=hinge alpha=0.95;",
        "(-0.600)",
        "[-0.688, -0.512]",
        "weight_decay=0.0005 ≠ batch",
        "Hypervolume after 1 trial: TPE ",
        "tune_regularizer: dataset=digits architecture=lenet k=0.1: the paper's claims",
        "fig8-tuned-mitigated (Fig. 8, section 6): The recommended setting of the regularizer memorizes less than a ",
        "  held: on fresh seeds memorization with regularizer=hinge alpha=0.95 minus norm=none: -0.280 [",
        "no figure of importance: there is no storage of Optuna's beside the records.",
    ):
        assert said in done.stdout
    folder = Path(results.location) / tuned.SWEEP / "figures"
    names = [f"{name}.{suffix}" for name in ("hypervolume", "tradeoff") for suffix in ("pdf", "png", "svg")]
    assert files(folder) == sorted(names)
    assert "…" not in done.stdout


@pytest.mark.slow
def test_a_tradeoff_says_what_it_lacks(results: Results, command, tmp_path: Path):
    tuned.write(results, tuned.REFERENCES | tuned.SEARCHED)
    code, out, err = command("tradeoff", results, "--figures", tmp_path / "figures")
    assert (code, err) == (0, "")
    again = "`python -m sweeps tune regularizer` with --max-accuracy-loss 0.01 and all else as before does."
    assert f"No arm has been measured on fresh seeds; {again}" in out
    assert "there is no random search to compare it with" in out
    group = tuned.replace(tuned.BASE, norm="group")
    tuned.confirm(results, {tuned.BASE: 5 * [0.0], tuned.NONE: 5 * [0.3], group: 5 * [0.1]})
    shard(results, tuned.replace(tuned.NONE, seed=tuned.FRESH), f"{tuned.SWEEP}_confirm").unlink()
    code, said, _ = command("tradeoff", results, "--figures", tmp_path / "figures", "--partial")
    assert code == 0
    assert f"The recommended setting has not been measured on fresh seeds; {again}" in said
    assert "tune_regularizer_confirm: 5 of 15 planned members are missing, of [" in said


def test_a_tuning_of_which_all_diverged_has_no_front(results: Results, command, tmp_path: Path):
    tuned.write(results, {**tuned.REFERENCES, tuned.LOG: None})
    code, out, err = command("tradeoff", results, "--figures", tmp_path)
    assert (code, err) == (0, "")
    assert "Nothing is recommended: no searched setting gave a result." in out
    assert "no figure of the front: no searched setting gave a result." in out
    assert not (tmp_path / "tradeoff.png").exists()


def test_the_ledger_prints_every_claim_within_a_hundred_columns(results: Results, command):
    plan(results, GRID[2:], "quickstart")
    record(results, GRID[2:], sweep="quickstart")
    code, out, err = command("claims", results)
    assert (code, err) == (0, "")
    table = [line for line in out.splitlines() if line.startswith(("│", "┏"))]
    assert max(map(len, table)) <= 100
    (line,) = (line for line in table if "fig1-above" in line)
    assert [cell.strip() for cell in line.split("│")][2:4] == ["held", "3"]
    assert (
        "  held: quickstart on digits, lenet (of the paper's 0 of 4 datasets, 1 of 5 networks); in 2 of 2 cells; "
        in out
    )
    assert f"  not run: python -m sweeps run ood --results {results}\n" in out
    assert out.splitlines()[-2].endswith(" not run")
    assert "at most 5% have any false verdict" in out
    assert "fig3-above" not in command("claims", results, "--sweep", "quickstart")[1]


def test_figures_go_where_they_are_asked_for(complete: Results, command, tmp_path: Path):
    code, out, _ = command("figures", complete, "--figures", tmp_path / "figures")
    assert code == 0
    assert files(tmp_path / "figures") == ["memorization.pdf", "memorization.png", "memorization.svg"]
    assert f"figure: {tmp_path}/figures/memorization.png" in out
    assert not (Path(complete.location) / "mine" / "figures").exists()


def test_figures_are_as_wide_as_is_asked_for(complete: Results, command, refusal, tmp_path: Path):
    sizes = {}
    for width in (3, 6):
        assert command("figures", complete, "--figures", tmp_path / str(width), "--width", width)[0] == 0
        with Image.open(tmp_path / str(width) / "memorization.png") as image:
            sizes[width] = image.size[0]
            assert 0.7 * 300 * width < image.size[0] <= 300 * width
    assert sizes[3] < sizes[6]
    for verb in ("figures", "membership", "tradeoff"):  # before anything is read
        assert "a figure is 3 to 100 inches wide, not 2.5." in refusal(verb, complete, "--width", 2.5)


def test_a_program_can_read_which_figures_there_are(complete: Results, command, tmp_path: Path):
    code, out, err = command("figures", complete, "--figures", tmp_path / "figures", "--format", "json")
    assert (code, err) == (0, "")
    ((row,),) = (table["rows"] for table in json.loads(out))
    assert (row["sweep"], row["figure"], row["png"]) == ("mine", "memorization", f"{tmp_path}/figures/memorization.png")


def test_the_papers_figures_are_drawn_and_what_lacks_is_said(results: Results, command, refusal, tmp_path: Path):
    planted.write(results, planted.plan("label_noise", Scale.quick, k=(0.1, 0.3)))
    code, out, err = command("figures", results, "--figures", tmp_path / "all")
    assert (code, err) == (0, "")
    assert files(tmp_path / "all") == sorted(
        f"{name}.{kind}" for name in ("fig1", "fig10", "fig18") for kind in ("pdf", "png", "svg")
    )
    assert "fig2: there are no records of flipped labels at k=5%.\n" in out
    code, out, _ = command("figures", results, "--figures", tmp_path / "one", "--figure", "fig18")
    assert (code, files(tmp_path / "one")) == (0, ["fig18.pdf", "fig18.png", "fig18.svg"])
    assert "fig2" not in out
    named = ("figures", results, "--figures", tmp_path / "none", "--figure")
    assert "fig2: there are no records of flipped labels at k=5%." in refusal(*named, "fig2")
    assert "did you mean 'fig1'?" in refusal(*named, "fig_1")
    assert "fig3 is drawn from records of ood, not of label_noise" in refusal(*named, "fig3")


def test_figures_of_several_sweeps_do_not_overwrite_each_other(complete: Results, command, tmp_path: Path):
    plan(complete, GRID[2:4], "another")
    record(complete, GRID[2:4], sweep="another")
    assert command("figures", complete, "--figures", tmp_path / "figures")[0] == 0
    assert files(tmp_path / "figures") == [
        f"{sweep}/memorization.{suffix}" for sweep in ("another", "mine") for suffix in ("pdf", "png", "svg")
    ]


def test_a_uri_is_a_results_folder_too(complete: Results, command, refusal, tmp_path: Path):
    uri = Path(complete.location).as_uri()
    by_path, by_uri = (command("tables", place)[1].splitlines() for place in (complete, uri))
    assert by_uri[:-1] == by_path[:-1]
    assert "--figures DIR" in refusal("figures", uri)
    assert command("figures", uri, "--figures", tmp_path / "figures")[0] == 0


def test_the_alternative_can_be_chosen(complete: Results, command):
    greater, less = (command("compare", complete, "--alternative", side)[1] for side in ("greater", "less"))
    assert greater != less
    assert command("compare", complete, "--reference", "batch")[1].count("none ≠ batch") == 20


@pytest.mark.parametrize(
    "verb", [["tables"], ["tables", "--factor", "k"], ["tables", "--effects"], ["compare"]], ids=" ".join
)
def test_json_and_csv_can_be_piped(complete: Results, command, verb: list[str]):
    shard(complete, GRID[3]).unlink()
    code, out, err = command(*verb, complete, "--partial", "--format", "json")
    assert (code, err) == (0, "")
    (table,) = json.loads(out)
    assert table["rows"]
    assert f"mine: 3 of 18 planned members are missing, of [{GRID[3]}]." in table["notes"]
    code, out, err = command(*verb, complete, "--partial", "--format", "csv")
    assert len(pd.read_csv(io.StringIO(out))) == len(table["rows"])
    assert err.endswith(f"mine: 3 of 18 planned members are missing, of [{GRID[3]}].\n")


@pytest.mark.slow
def test_the_audits_tables_go_to_a_file_and_its_figures_to_a_folder(complete: Results, command, tmp_path: Path):
    halves.write(complete, *halves.TRIALS, sweep="halves")
    where = ["--format", "markdown", "--out", tmp_path / "audit.md", "--figures", tmp_path / "figures"]
    code, out, err = command("membership", complete, "--attack", "rmia_online", *where)
    assert (code, out) == (0, "")
    assert err.count("figure: ") == 9
    assert (tmp_path / "audit.md").read_text().count("**halves: ") == 2


def test_several_sweeps_are_one_csv_table_with_a_column_for_the_sweep(
    command: Callable[..., tuple[int, str, str]], complete: Results
):
    plan(complete, GRID[:2], "other")
    record(complete, GRID[:2], sweep="other")
    code, out, _ = command("tables", complete, "--format", "csv")
    read = pd.read_csv(io.StringIO(out))
    assert code == 0
    assert read["sweep"].value_counts().to_dict() == {"mine": 6, "other": 2}
    _, alone, _ = command("tables", complete, "--sweep", "other", "--format", "csv")
    assert "sweep" not in pd.read_csv(io.StringIO(alone)).columns


def test_the_optimizer_sweep_is_tabulated_by_optimizer_with_what_each_brings_along(
    command: Callable[..., tuple[int, str, str]], results: Results
):
    write_planned(results, plan_of("optimizer", Scale.quick))
    code, out, err = command("tables", results, "--factor", "optimizer", "--marginal")
    assert (code, err) == (0, "")
    assert "each optimizer has its own lr (adam 0.001, adamw 0.001, rmsprop 0.001, sgd 0.1) and weight_decay (" in out
    code, out, err = command("compare", results, "--factor", "optimizer", "--format", "json")
    rows = json.loads(out)[0]["rows"]
    assert (code, {row["n"] for row in rows if row["metric"] == "mem_acc"}) == (0, {2})


# How the folder is named


def test_the_folder_is_an_argument_or_an_option_and_a_sweeps_own_folder_stands_for_it(
    command: Callable[..., tuple[int, str, str]], complete: Results, monkeypatch: pytest.MonkeyPatch
):
    folder = Path(complete.location)
    code, usual, _ = command("tables", folder, "--sweep", "mine", "--format", "json")
    assert code == 0
    monkeypatch.chdir(folder.parent)
    for arguments in (
        [folder / "mine"],
        ["--results", folder],
        ["--results", folder, folder],
        [f"{folder.name}/mine/"],
        ["--results", f"{folder.name}/mine", "--sweep", "mine"],
    ):
        assert command("tables", *arguments, "--format", "json")[:2] == (0, usual), arguments
    monkeypatch.chdir(folder / "mine")
    assert command("tables", ".", "--format", "json")[:2] == (0, usual)


def test_a_metric_is_named_by_its_column_or_as_tables_head_it(
    command: Callable[..., tuple[int, str, str]], complete: Results
):
    by_column = command("tables", complete, "--metric", "mia_auc", "--format", "csv")
    assert command("tables", complete, "--metric", "MIA AUC", "--format", "csv") == by_column
    assert by_column[0] == 0


def test_each_table_ends_with_the_next_command_but_not_for_a_program(
    command: Callable[..., tuple[int, str, str]], complete: Results
):
    _, out, _ = command("tables", complete)
    assert out.splitlines()[-1] == f"next: python -m analysis compare {complete} --factor norm"
    _, out, _ = command("compare", complete, "--sweep", "mine")
    assert out.splitlines()[-1] == f"next: python -m analysis figures {complete} --sweep mine"
    for form in ("csv", "json", "markdown", "latex"):
        assert "next: " not in "".join(map(str, command("tables", complete, "--format", form)))


# What can't be done


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tables", "RESULTS", "--sweep", "mien"], "'mien': did you mean 'mine'?"),
        (["compare", "RESULTS", "--factor", "lr"], "lr has one level here, 0.0001, so there is nothing to compare."),
        (["compare", "RESULTS", "--reference", "bach"], "unknown level of norm 'bach': did you mean 'batch'?"),
        (["compare", "RESULTS", "--alternative", "greatr"], "unknown alternative 'greatr': did you mean 'greater'?"),
        (["tables", "RESULTS", "--format", "latx"], "unknown format 'latx': did you mean 'latex'?"),
        (["tables", "RESULTS", "--metric", "mem_ac"], "unknown metric 'mem_ac': did you mean 'mem_acc'?"),
        (["tables", "RESULTS", "--factor", "nrom"], "unknown factor 'nrom': did you mean 'norm'?"),
        (["tables", "RESULTS", "--factor", "k", "--effects"], "choose one"),
        (["tables", "RESULTS", "--marginal"], "need a --factor"),
        (["tables", "RESULTS", "--across", "datset"], "unknown setting 'datset': did you mean 'dataset'?"),
        (
            ["tables", "RESULTS", "--across", "dataset"],
            "dataset has one level here, so there is nothing to put side by",
        ),
        (["tables", "RESULTS", "--out", "RESULTS/mine"], "tables can't be written to"),
        (["tables", "RESULTS/nowhere"], "there is no results folder '"),
        (["tables", "RESULTS/mine", "--sweep", "other"], "--sweep other is not in the folder of mine"),
        (["report", "RESULTS/mine"], "is what is wanted here, and not the folder of mine in it"),
        (["tables", "RESULTS", "--results", "elsewhere"], "two results folders are named"),
        (["tables", "gopher://results"], "'gopher://results' can't be opened"),
        (["figures", "RESULTS", "--figures", "RESULTS/mine/plans/file"], "figures can't be written to"),
        (["claims", "RESULTS", "--sweep", "quickstrat"], "'quickstrat': did you mean 'quickstart'?"),
        (["membership", "RESULTS"], "mine has no models on halves of D'; the sweep membership has"),
        (["tradeoff", "RESULTS"], "holds no tuning tune_regularizer; make one with `python -m sweeps tune regularizer"),
        (["tradeoff", "RESULTS", "--max-accuracy-loss", "2"], "--max-accuracy-loss"),
        (["tables", "RESULTS", "--partly"], "--partly"),
        (["tables"], "there is no results folder '"),
        (["table", "RESULTS"], "'table'"),
    ],
    ids=lambda value: "-".join(value[-2:]) if isinstance(value, list) else "",
)
def test_bad_input_gets_one_sentence(
    complete: Results, refusal, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(complete.location)  # there may be results where the tests are run
    Path(complete.location, "mine", "plans", "file").symlink_to("/dev/null")
    placed = [argument.replace("RESULTS", complete.location) for argument in arguments]
    if "--figures" not in placed:
        Path(complete.location, "mine", "plans", "file").unlink()
    assert said in refusal(*placed)


def remove(path: Path) -> None:
    path.unlink()


def copy(path: Path) -> None:
    shutil.copy(path, path.with_name("copy.parquet"))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("verb", ["tables", "compare", "figures"])
@pytest.mark.parametrize(
    ("spoil", "said"),
    [(remove, "1 of 6 trials have no complete record"), (copy, "recorded twice"), (truncate, "is truncated")],
)
def test_a_spoiled_grid_gets_one_sentence_from_every_command(complete: Results, refusal, verb: str, spoil, said: str):
    spoil(shard(complete, GRID[1]))
    assert said in refusal(verb, complete)
    assert not (Path(complete.location) / "mine" / "figures").exists()


def test_members_without_a_partner_are_refused(results: Results, refusal):
    trials = grid(k=(0.1, 0.3), norm="batch") + grid(k=0.1, norm="none")
    plan(results, trials)
    record(results, trials)
    assert "1 members have no partner across norm=batch and norm=none, such as k=0.3;" in refusal("compare", results)


def test_clean_members_make_no_figure(results: Results, refusal):
    plan(results, GRID[:2])
    record(results, GRID[:2])
    assert "there is no member with corrupted samples to draw" in refusal("figures", results)


# Robustness, the panel and the claims of both papers


@pytest.fixture
def attacked(results: Results) -> Results:
    """Both arms of a sweep `mine`, attacked and with flipped labels, three seeds each."""
    robust.record_attacked(
        results, "mine", grid(k=0.1, norm=("batch", "none"), robustness="pixel", seed=range(3)), outcome=plausible
    )
    return results


def test_robustness_prints_accuracies_checks_and_controls_and_draws_them(attacked: Results, command):
    code, out, err = command("robustness", attacked)
    assert (code, err) == (0, "")
    titles = ("accuracy under noise and attacks", "are the attacks sound?", "test accuracy of batch norm with other")
    assert all(f"mine: {title}" in out for title in titles)
    assert "PGD linf, 100 steps" in out
    assert "0 of 18 checks fail" in out
    assert "WARNING" not in out
    assert Path(attacked.location, "mine", "figures", "robustness.png").is_file()
    assert out.rstrip().endswith(f"next: python -m analysis panel {attacked}")


@pytest.mark.slow
def test_robustness_warns_of_an_attack_that_is_not_sound(results: Results, command):
    trials = grid(norm=("batch", "none"), robustness="pixel", seed=range(3))
    robust.record_attacked(
        results, "mine", trials, lambda trial, seed, of: 0.9 if of.steps == 100 else robust.sound(trial, seed, of)
    )
    assert "WARNING, norm=batch: it does not hold that more steps never help" in command("robustness", results)[1]


@pytest.mark.slow
def test_robustness_gives_numbers_to_other_programs(attacked: Results, command, tmp_path: Path):
    code, out, _ = command("robustness", attacked, "--format", "json", "--figures", tmp_path)
    accuracies, checks, controls = json.loads(out)
    assert code == 0
    assert {row["suite"] for row in accuracies["rows"]} == {"pixel", "checks"}
    assert {"acc", "acc_low", "acc_high", "kept", "clean_acc", "epsilon", "steps"} <= set(accuracies["rows"][0])
    assert {row["verdict"] for row in checks["rows"]} == {"pass"}
    assert {row["statistics"] for row in controls["rows"]} == {"batch_statistics", "new_statistics"}
    code, _, _ = command("robustness", attacked, "--format", "csv", "--out", tmp_path / "robustness.csv")
    assert code == 0
    assert "acc_low" in (tmp_path / "robustness.csv").read_text()


def test_robustness_of_records_without_any_says_how_to_measure_it(complete: Results, refusal):
    assert "robustness=pixel" in refusal("robustness", complete)


def test_the_panel_prints_means_and_differences_and_draws_them(attacked: Results, command):
    code, out, err = command("panel", attacked)
    assert (code, err) == (0, "")
    assert "mine: means [95% intervals]" in out
    assert "mine: less no norm, paired" in out
    assert "not measured" in out
    assert Path(attacked.location, "mine", "figures", "panel.png").is_file()
    code, out, _ = command("panel", attacked, "--reference", "batch", "--format", "markdown")
    assert "mine: less batch norm, paired" in out


def test_tables_and_compare_show_robustness_where_it_was_measured(attacked: Results, command):
    out = command("tables", attacked, "--format", "csv")[1]
    assert "pgd_l2_acc_mean" in out.splitlines()[0]
    out = command("compare", attacked, "--metric", "noise_acc", "--metric", "PGD linf", "--format", "json")[1]
    rows = json.loads(out)[0]["rows"]
    assert [(row["metric"], row["alternative"]) for row in rows] == [("noise_acc", "less"), ("pgd_linf_acc", "less")]
    assert "noise" in command("tables", attacked, "--metric", "noise_acc")[1]


def test_tables_of_other_sweeps_have_no_columns_of_robustness(complete: Results, command):
    assert "noise_acc" not in command("tables", complete, "--format", "csv")[1]


def test_the_claims_of_each_paper_are_told_apart(results: Results, command):
    plan(results, GRID[2:], "quickstart")
    record(results, GRID[2:], sweep="quickstart")
    out = command("claims", results)[1]
    assert out.index("The claims of 2026") < out.index("The claims of 2019")
    of_2019 = command("claims", results, "--paper", "2019")[1]
    assert "g19-t6-bim" in of_2019
    assert "fig1-above" not in of_2019
    rows = json.loads(command("claims", results, "--paper", "2026", "--format", "json")[1])[0]["rows"]
    assert {row["publication"] for row in rows} == {"2026"}


def test_another_paper_is_refused(complete: Results, refusal):
    assert "'2018'" in refusal("claims", complete, "--paper", "2018")


def test_a_table_of_the_second_paper_has_its_numbers_beside_ours(results: Results, command, refusal):
    robust.record_attacked(results, "input_dimension", SWEEPS["input_dimension"].plan(Scale.quick).trials)
    out = command("tables", results, "--table", "g19-t7", "--table", "g19-t6", "--format", "markdown")[1]
    assert out.index("Table 7 of 2019") < out.index("Table 6 of 2019")
    assert "66.70 ± 0.90" in out
    assert "'g19-t66'" in refusal("tables", results, "--table", "g19-t66")
    assert "choose one" in refusal("tables", results, "--table", "g19-t6", "--effects")


def test_a_table_without_its_records_names_the_command_that_makes_them(complete: Results, refusal):
    assert "python -m sweeps run input_dimension" in refusal("tables", complete, "--table", "g19-t6")
