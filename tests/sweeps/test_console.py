import signal
from pathlib import Path

import pytest
import typer

from study.record.results import Results
from study.trial import Trial
from sweeps import console, registry
from sweeps.sweep import Scale
from sweeps.tuning.search import Search
from sweeps.tuning.space import SEARCHES
from sweeps.tuning.stages import Tuning
from tests.sweeps.tuning import test_stages as tuned


@pytest.mark.parametrize(
    ("trials", "words"),
    [
        ((), "0 trials, 0 members"),
        ((Trial(),), "1 trial, 1 member"),
        ((Trial(seed=(0, 1)), Trial(norm="none")), "2 trials, 3 members"),
    ],
)
def test_a_size_is_told_in_words(trials: tuple[Trial, ...], words: str):
    assert console.size(trials) == words


@pytest.mark.parametrize(
    ("hours", "words"), [(1e-6, "below 0.001"), (0.0123, "0.012"), (1.5, "1.5"), (12.7, "13"), (12345.6, "12,346")]
)
def test_device_hours_are_told_to_what_matters(hours: float, words: str):
    assert console.format_hours(hours) == f"{words} device-hours"


def test_a_table_of_trials_shows_what_differs_and_says_how_many_are_left_out(tmp_path: Path):
    state = registry.sweep("quickstart").plan(Scale.quick).state(Results.at(tmp_path))
    table = console.trials_table(state, 3, lambda trial: None)
    assert [column.header for column in table.columns] == ["trial", "k", "norm", "members", "time", "state"]
    assert (table.row_count, table.caption) == (3, "and 1 more; --all shows them")
    whole = console.trials_table(state, None, lambda trial: None)
    assert (whole.row_count, whole.caption) == (4, None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_launch_ends_with_the_signals_code_and_says_how_to_go_on(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
):
    with pytest.raises(typer.Exit) as ended, console.explaining_ctrl_c():
        signal.raise_signal(number)
    assert ended.value.exit_code == 128 + number
    assert "stopped; the same command goes on where it was." in capfd.readouterr().out


def test_how_a_kind_of_trial_trains_is_said_once(capfd: pytest.CaptureFixture[str]):
    trials = (Trial(k=0.1), Trial(k=0.2), Trial(k=0.1, norm="none"))
    on_packing = console.packing_printer(trials)
    for trial in trials:
        on_packing(trial, "grouped x 4")
    lines = capfd.readouterr().out.splitlines()
    assert lines == [
        "  norm=batch: trained as grouped x 4",
        "  norm=none: trained as grouped x 4",
    ]


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (0.9, "alpha=0.9 lr=0.001\n"),
        (0.31, "it memorizes more than norm=batch itself (0.430 against 0.310), so nothing was gained.\n"),
    ],
)
def test_a_tuning_that_gains_nothing_says_so(
    tmp_path: Path, batch: float, said: str, capfd: pytest.CaptureFixture[str]
):
    results = Results.at(tmp_path)
    for trial, mem_acc in zip(tuned.CELL.references, (batch, 0.1), strict=True):
        tuned.record(results, SEARCHES["tpe"], trial, mem_acc, 0.9)
    tuned.suggest(results, 0.1, mem_acc=0.43, val_mia_auc=0.5, val_acc=0.9)
    search = Search(tuned.CELL, "tpe", 1, 0, results)
    assert not console.print_tuning_summary(Tuning(tuned.CELL, (search,), 0.05, results))
    shown = capfd.readouterr().out
    assert "recommended with at most 0.05 of validation accuracy lost: regularizer=log alpha=0.9" in shown
    assert said in shown
