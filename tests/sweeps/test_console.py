import signal
from pathlib import Path

import pytest
import typer

from study.record.results import Results
from study.trial import Trial
from sweeps import console, registry
from sweeps.sweep import Scale


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


@pytest.mark.parametrize(("hours", "words"), [(0.0123, "0.012"), (1.5, "1.5"), (12.7, "13"), (12345.6, "12,346")])
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
    on_packing = console._packing_printer(trials)
    for trial in trials:
        on_packing(trial, "grouped x 4")
    lines = capfd.readouterr().out.splitlines()
    assert lines == [
        "  norm=batch: trained as grouped x 4",
        "  norm=none: trained as grouped x 4",
    ]
