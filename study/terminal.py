"""What every command shares: one clear sentence for bad input, progress with an ETA, and the device."""

import os
import signal
import sys
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from study.errors import BadInputError

Settings = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE ...", help="Settings, as in: norm=none k=0.1 seed=0,1,2")
]
DataDir = Annotated[str, typer.Option("--data-dir", help="Where torchvision's datasets lie or are downloaded to.")]

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""What the command line raises for an option or a command that it doesn't know."""

console = Console(highlight=False, markup=False, emoji=False)
if not console.is_terminal:
    console = Console(
        highlight=False, markup=False, width=160
    )  # a pipe has no width of its own, and 80 would cut the tables


def application(text: str) -> typer.Typer:
    """A command line with the project's manners: no traceback boxes, short flags for help."""
    return typer.Typer(
        help=text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def main(app: typer.Typer, name: str) -> None:
    """Run the command line; bad input is one sentence on standard error and exit code 2."""
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


def stop_at_ctrl_c() -> None:
    """End this process at once at Ctrl-C, with exit code 130.

    An exception would come up wherever the process is just then: in the middle of a compiled library, which may swallow
    it or abort. Records are renamed into place when they are whole, so that nothing is left half-written.
    """
    signal.signal(signal.SIGINT, lambda *_: _stop())


def _stop() -> NoReturn:
    try:
        console.show_cursor()
        print("stopped", file=sys.stderr)
        sys.stdout.flush()
    finally:
        os._exit(130)


def _fail(message: str) -> NoReturn:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def show(table: Table) -> None:
    """Print a table; on a pipe, which has no width, at its own."""
    if console.is_terminal:
        console.print(table)
        return
    width = console.measure(table, options=console.options.update(max_width=1_000)).maximum
    # Rich prints nothing wider than its console.
    Console(file=console.file, highlight=False, markup=False, emoji=False, width=max(width, 1)).print(table)


def progress_bar() -> Progress:
    """A bar with percentage, elapsed time and ETA; on a pipe it leaves only its last state."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        console=console,
    )


def duration(seconds: float) -> str:
    """Seconds as a person would say them: 0.2 s, 45 s, 12 min, 3.5 h, 12 days."""
    if seconds < 1:
        return f"{seconds:.1g} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86400:,.0f} days"
