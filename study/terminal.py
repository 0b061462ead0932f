"""The command lines' shared parts: options, errors in one sentence, tables, and progress with an ETA."""

import codecs
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from threading import Event, Lock, Thread
from typing import Annotated, NoReturn, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TaskProgressColumn, TextColumn
from rich.table import Column, Table
from rich.text import Text

from study.errors import BadInputError

Assignments = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE ...", help="Settings, as in: norm=none k=0.1 seed=0,1,2")
]
DataDir = Annotated[
    str,
    typer.Option(
        "--data-dir",
        help="Where torchvision's datasets lie or are downloaded to: a folder, or a URI that each node fetches from.",
    ),
]

HELP = ("-h", "--help")
"""The options that show the help of a command."""

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""The error that typer raises for an option or a command that it doesn't know."""

STOPPING = (signal.SIGINT, signal.SIGTERM)
"""The signals that stop a command: Ctrl-C, and that by which Slurm, Kubernetes and `ray job stop` end a process."""

console = Console(highlight=False, markup=False, emoji=False)
if not console.is_terminal:
    # A pipe has no width of its own, and 80 columns would cut the tables.
    console = Console(highlight=False, markup=False, width=160)
errors = Console(stderr=True, highlight=False, markup=False, emoji=False)
"""Standard error, for messages of a command whose standard output another program reads."""


def application(text: str) -> typer.Typer:
    """Return an empty command line without traceback boxes, whose help comes with -h as well."""
    return typer.Typer(
        help=text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": list(HELP)},
    )


def main(app: typer.Typer, name: str) -> None:
    """Run the command line and end the process: bad input is one sentence on standard error and exit code 2.

    One that is stopped ends with 128 and the number of the signal, as in a shell.
    """
    _show_what_can_be_shown()
    handled = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if handled:
        signal.signal(signal.SIGTERM, _exit)
    try:
        sys.exit(app(prog_name=name, standalone_mode=False))
    except UsageError as error:
        message = error.format_message()  # type: ignore[attr-defined]
        if not message:  # no arguments at all: typer has printed the help
            sys.exit(2)
        _fail(message)
    except BadInputError as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    finally:
        if handled:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


SPELLED = {"γ": "gamma", "σ": "sigma", "±": "+-", "×": "x", "≤": "<=", "≥": ">=", "≠": "!=", "…": "...", "–": "-"}
"""How a terminal that lacks a symbol shows it; a letter that it lacks is shown by its number."""


def _show_what_can_be_shown() -> None:
    """Have a terminal of ASCII or Latin-1 spell what it can't show: it must not end a command."""
    codecs.register_error("spelled", _spell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="spelled")


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    """Spell the characters that could not be encoded."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    spelled = (SPELLED.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in letters)
    return "".join(spelled), error.end


def _exit(number: int, _: object) -> NoReturn:
    """Leave the command by an exception, so that it lets go of what it holds."""
    sys.exit(128 + number)


def stop_at_once(message: str = "stopped") -> None:
    """End this process at once at Ctrl-C or SIGTERM, with that message and exit code 130 or 143.

    An exception would be raised wherever the process is at that moment, even within a compiled library, which may
    swallow it or abort. Records are renamed into place when they are whole, so that nothing is left half-written.
    """
    for each in STOPPING:
        signal.signal(each, lambda number, _: end_at_once(number, message))


def end_at_once(number: int, message: str) -> NoReturn:
    """End this process, whatever it is doing, with that message and the exit code of that signal."""
    try:
        console.show_cursor()
        print(message, file=sys.stderr)
        sys.stdout.flush()
    finally:
        os._exit(128 + number)


def _fail(message: str) -> NoReturn:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def print_table(table: Table) -> None:
    """Print a table; on a pipe, which has no width, it is as wide as it needs to be."""
    if console.is_terminal:
        console.print(table)
        return
    width = console.measure(table, options=console.options.update(max_width=1_000)).maximum
    # Rich prints no table wider than its console, and wraps a title that is wider than its table unless told not to.
    wide = Console(file=console.file, highlight=False, markup=False, emoji=False, width=max(width, 1))
    wide.print(table, soft_wrap=True)


LINE_EVERY_S = 60.0
"""How often progress is a line where standard output is no terminal."""
SPEED_OVER_S = 600.0
"""Over how many of the last seconds the speed is taken from which the rest is estimated."""

Show = Callable[..., None]
"""Shows how far a task is: called with the fraction that is done, and with a few words on it if there are any."""


class ProgressDisplay:
    """Show how far tasks are: on a terminal as bars, elsewhere as a line a minute for each that is under way.

    Args:
        every_s: seconds from one line to the next; `LINE_EVERY_S` by default.
        on: where it is shown; `console` by default.
    """

    def __init__(self, every_s: float | None = None, on: Console | None = None) -> None:
        self._console = console if on is None else on
        self._terminal = self._console.is_terminal
        self._tasks = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None, table_column=Column(min_width=4, max_width=40, ratio=1)),
            TaskProgressColumn(),
            TextColumn("{task.fields[words]}"),
            _TimeColumn(),
            console=self._console,
            speed_estimate_period=SPEED_OVER_S,
            disable=not self._terminal,
            expand=True,
        )
        self._every_s = LINE_EVERY_S if every_s is None else every_s
        self._underway: dict[TaskID, Task] = {}
        self._printing, self._over = Lock(), Event()
        self._printer = Thread(target=self._print_now_and_then, daemon=True)

    def __enter__(self) -> Self:
        self._tasks.start()
        if not self._terminal:
            self._printer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._tasks.stop()
        if not self._terminal:
            self._over.set()
            self._printer.join()
            self._print_lines()

    def add(self, name: str, words: str = "") -> Show:
        """Show a further task, of which nothing is done, and return what is to be called with its progress."""
        number = self._tasks.add_task(name, total=1.0, words=words)
        task = self._underway[number] = self._tasks.tasks[-1]

        def show(fraction: float, words: str = "") -> None:
            self._tasks.update(number, completed=fraction, words=words)
            if task.finished and not self._terminal:
                self._print_lines([number])

        return show

    def _print_now_and_then(self) -> None:
        while not self._over.wait(self._every_s):
            self._print_lines()

    def _print_lines(self, numbers: list[TaskID] | None = None) -> None:
        """Print a line for each of these tasks, by default for all that are under way: one that is done has no more."""
        with self._printing:
            for number in list(self._underway) if numbers is None else numbers:
                task = self._underway.get(number)
                if task is not None:
                    done = task.finished  # it may come to its end while its line is being printed
                    words = f", {task.fields['words']}" if task.fields["words"] else ""
                    line = f"{task.description}: {task.percentage:.0f}%{words}; {_time(task)}"
                    _print_at_once(line, self._console)
                    if done:
                        del self._underway[number]


class _TimeColumn(ProgressColumn):
    """Show for how long a task has run and will run."""

    def render(self, task: Task) -> Text:
        return Text(_time(task), style="progress.remaining", no_wrap=True)


def _time(task: Task) -> str:
    """Return in words for how long a task has run, and for how long it will if it goes on as in the last minutes."""
    if task.finished:
        return f"took {format_duration(task.finished_time or 0.0)}"
    remaining = task.time_remaining
    return f"{format_duration(task.elapsed or 0.0)}, eta {'?' if remaining is None else format_duration(remaining)}"


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Say what is being done within the block: on a terminal for as long as it takes, elsewhere as a line."""
    if console.is_terminal:
        with console.status(f"{what} ..."):
            yield
    else:
        _print_at_once(f"{what} ...", console)
        yield


def _print_at_once(line: str, on: Console) -> None:
    """Print a line that whoever reads a pipe or a log gets now, and not once a buffer is full."""
    on.print(line, soft_wrap=True)
    on.file.flush()


def format_duration(seconds: float) -> str:
    """Return seconds as a person would say them: 0.2 s, 45 s, 12 min, 3.5 h, 12 days."""
    if seconds < 1:
        return f"{seconds:.1g} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86400:,.0f} days"
