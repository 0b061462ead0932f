import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from study.terminal import format_duration, print_table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.23, "0.2 s"),
        (45, "45 s"),
        (89, "89 s"),
        (90, "2 min"),
        (720, "12 min"),
        (12_600, "3.5 h"),
        (12 * 86_400, "12 days"),
        (2_000 * 86_400, "2,000 days"),
    ],
)
def test_seconds_are_written_as_a_person_would_say_them(seconds, text):
    assert format_duration(seconds) == text


def test_on_a_pipe_a_row_of_a_table_is_one_line_however_wide(capsys):
    table = Table("name", "meaning")
    table.add_row("short", "word " * 60)
    print_table(table)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert ("word " * 60).strip() in lines[3]


def test_on_a_pipe_a_title_wider_than_its_table_stays_on_its_line(capsys):
    table = Table("k", title="quickstart: dataset=digits architecture=lenet")
    table.add_row("0.1")
    print_table(table)
    assert capsys.readouterr().out.splitlines()[0].strip() == table.title


WAITS = """
import time
from study.terminal import application, main

app = application("Waits.")

@app.callback()
def waits() -> None:
    pass

@app.command()
def wait() -> None:
    try:
        print("waiting", flush=True)
        time.sleep(1000)
    finally:
        print("let go", flush=True)

main(app, "waits")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_stopped_lets_go_of_what_it_has_and_ends_as_in_a_shell(number):
    waits = subprocess.Popen(
        [sys.executable, "-c", WAITS, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert waits.stdout is not None
    assert waits.stdout.readline() == "waiting\n"
    waits.send_signal(number)
    out, errors = waits.communicate()
    assert (waits.returncode, out, errors) == (128 + number, "let go\n", "")


TRAINS = """
import sys
from study.terminal import ProgressDisplay

with ProgressDisplay(every_s=0.01) as display:
    first, second = display.add("first", "starting"), display.add("second")
    for line in sys.stdin:
        first(float(line), "1 done, 3 missing")
"""


def test_on_a_pipe_progress_is_a_line_now_and_then_for_each_task_until_it_is_done():
    trains = subprocess.Popen(
        [sys.executable, "-c", TRAINS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert trains.stdin is not None
    assert trains.stdout is not None

    def read_until(start: str) -> str:
        """Return the first line that begins so, for which the other process needs nothing but time."""
        return next(line for line in trains.stdout if line.startswith(start))

    assert read_until("first: 0%, starting; ").endswith(" s, eta ?\n")
    assert read_until("second: 0%; ")
    for fraction in ("0.25", "0.5"):
        trains.stdin.write(f"{fraction}\n")
        trains.stdin.flush()
        line = read_until(f"first: {float(fraction):.0%}, 1 done, 3 missing; ")
    assert re.search(r"; \S+ s, eta \S+ s\n", line)
    rest, errors = trains.communicate("1\n", timeout=60)
    lines = rest.splitlines()
    assert errors == ""
    # A task that is done has one last line, one that is not has its last state.
    assert [line.partition(";")[0] for line in lines].count("first: 100%, 1 done, 3 missing") == 1
    assert lines[-1].startswith("second: 0%; ")


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "+-"), ("latin-1", "±"), ("utf-8", "±")])
def test_a_terminal_spells_what_it_cannot_show(encoding, shown):
    code = (
        "from study.terminal import application, console, main, print_table; from rich.table import Table\n"
        "app = application('x')\n"
        "@app.command()\n"
        "def go():\n"
        "    table = Table('γ/σ', '结果'); table.add_row('1 ± 2', 'é'); print_table(table)\n"
        "    console.print('γ ± 结'); print('γ ± 结')\n"
        "main(app, 'x')\n"
    )
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    said = done.stdout.decode(encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert f"1 {shown} 2" in said
    letters = "γ", "结" if encoding == "utf-8" else r"\u7ed3"
    assert said.splitlines()[-1] == f"{letters[0] if encoding == 'utf-8' else 'gamma'} {shown} {letters[1]}"
