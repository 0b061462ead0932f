"""The command lines' shared parts: options, errors in one sentence, tables, and progress with an ETA."""

import os
import signal
import sys
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

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

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""The error that typer raises for an option or a command that it doesn't know."""

STOPPING = (signal.SIGINT, signal.SIGTERM)
"""The signals that stop a command: Ctrl-C, and that by which Slurm, Kubernetes and `ray job stop` end a process."""

console = Console(highlight=False, markup=False, emoji=False)
if not console.is_terminal:
    # A pipe has no width of its own, and 80 columns would cut the tables.
    console = Console(highlight=False, markup=False, width=160)


def application(text: str) -> typer.Typer:
    """Return an empty command line without traceback boxes, whose help comes with -h as well."""
    return typer.Typer(
        help=text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def main(app: typer.Typer, name: str) -> None:
    """Run the command line and end the process: bad input is one sentence on standard error and exit code 2.

    One that is stopped ends with 128 and the number of the signal, as in a shell.
    """
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


def _exit(number: int, _: object) -> NoReturn:
    """Leave the command by an exception, so that it lets go of what it holds."""
    sys.exit(128 + number)


def stop_at_once(message: str = "stopped") -> None:
    """End this process at once at Ctrl-C or SIGTERM, with that message and exit code 130 or 143.

    An exception would be raised wherever the process is at that moment, even within a compiled library, which may
    swallow it or abort. Records are renamed into place when they are whole, so that nothing is left half-written.
    """

    def stop(number: int, _: object) -> NoReturn:
        try:
            console.show_cursor()
            print(message, file=sys.stderr)
            sys.stdout.flush()
        finally:
            os._exit(128 + number)

    for each in STOPPING:
        signal.signal(each, stop)


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


def progress_bar() -> Progress:
    """Return a bar with percentage, elapsed time and ETA; on a pipe it leaves only its last state."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        console=console,
    )


def format_duration(seconds: float) -> str:
    """Return seconds as a person would say them: 0.2 s, 45 s, 12 min, 3.5 h, 12 days."""
    if seconds < 1:
        return f"{seconds:.1g} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86400:,.0f} days"
