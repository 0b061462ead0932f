"""The output of tables: to a terminal, into a paper, or as numbers for another program."""

import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
from rich import table as rich_table
from rich.console import Console

from study.errors import BadInputError, unknown
from study.terminal import console, errors, print_table

FORMATS = ("text", "markdown", "latex", "csv", "json")
SYMBOLS = str.maketrans({"±": r"$\pm$", "≠": r"$\neq$", "<": "$<$", ">": "$>$", "≤": r"$\leq$", "≥": r"$\geq$"})
"""The symbols that LaTeX knows in formulas alone."""


class Best(str):
    """The cell with the best of several values."""


@dataclass
class Table:
    """A table in two forms: the numbers, and the cells that a person reads.

    Attributes:
        title: the line above it.
        data: the numbers as they are, one row for each row of cells, for CSV and JSON.
        left: the headers of the columns of words.
        right: the headers of the columns of numbers, which come after them.
        cells: the rows of cells, for text, Markdown and LaTeX.
        notes: sentences below it.
        sweep: the sweep that it is of; empty where it is of several, or none.
    """

    title: str
    data: pd.DataFrame
    left: Sequence[str]
    right: Sequence[str]
    cells: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sweep: str = ""

    @property
    def headers(self) -> list[str]:
        """The headers of all columns."""
        return [*self.left, *self.right]

    def add_row(self, *cells: str) -> None:
        """Add a row of cells."""
        self.cells.append(cells)

    def rich(self) -> rich_table.Table:
        """Return the table for a terminal; the best of several cells has a star."""
        table = rich_table.Table(title=self.title, title_justify="left")
        # In a narrow terminal, cells go on in a second line rather than lose their end.
        for name in self.left:
            table.add_column(name, overflow="fold")
        for name in self.right:
            table.add_column(name, justify="right", overflow="fold")
        for row in self.cells:
            table.add_row(*(f"{cell} *" if isinstance(cell, Best) else cell for cell in row))
        return table


@dataclass(frozen=True)
class Output:
    """The format of a command's tables and the file that they go to.

    Attributes:
        form: one of `FORMATS`.
        file: the file for all of them, one after another; None for standard output.
    """

    form: str = "text"
    file: Path | None = None

    def __post_init__(self) -> None:
        if self.form not in FORMATS:
            raise unknown("format", self.form, FORMATS)

    def show(self, tables: Sequence[Table]) -> None:
        """Print the tables or write them, whole or not at all.

        Raises:
            BadInputError: the file can't be written.
        """
        if self.file is not None:
            write(self.file, render(tables, self.form), "tables")
            self.say(f"tables: {self.file}")
        elif self.form == "text":
            for table in tables:
                print_table(table.rich())
                for note in table.notes:
                    console.print(note, soft_wrap=True)
        else:
            print(render(tables, self.form), end="")
            if self.form == "csv":  # it has no place for notes
                for note in (note for table in tables for note in table.notes):
                    self.say(note)

    def say(self, message: str) -> None:
        """Print a message beside the tables: with them where they are text, else to standard error."""
        if self.form == "text":
            console.print(message, soft_wrap=True)
        else:
            print(message, file=sys.stderr)

    def messages(self) -> Console:
        """Return where messages go that are shown before the tables: beside them where they are text."""
        return console if self.form == "text" or self.file is not None else errors

    def hint(self, message: str) -> None:
        """Print what a person may want next; a program that reads the output has no use for it."""
        if self.form == "text" and self.file is None:
            console.print(message, soft_wrap=True)


def render(tables: Sequence[Table], form: str) -> str:
    """Return all tables in one of `FORMATS`.

    CSV has several tables as one, with a column that names the sweep of a row, and one for its table where a sweep has
    several; a column that a row's table doesn't have is empty. JSON has a list of objects with `title`, `notes` and
    `rows`, in which null stands for what is missing or not finite.
    """
    if form == "json":
        return json.dumps([_object(table) for table in tables], indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    if form == "csv":
        return _csv(tables)
    render_one = {"text": _text, "markdown": _markdown, "latex": _latex}[form]
    return "\n".join(render_one(table) for table in tables)


def _text(table: Table) -> str:
    page = Console(file=StringIO(), width=10_000, highlight=False, markup=False, emoji=False)
    width = page.measure(table.rich()).maximum
    page.print(table.rich(), *table.notes, sep="\n", width=max(width, 1), crop=False, soft_wrap=True)
    assert isinstance(page.file, StringIO)
    return page.file.getvalue()


def _markdown(table: Table) -> str:
    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    rules = ["---"] * len(table.left) + ["---:"] * len(table.right)
    rows = [line(_markdown_cell(cell) for cell in row) for row in table.cells]
    notes = [text for note in table.notes for text in ("", escape_markdown(note))]
    head = [f"**{escape_markdown(table.title)}**", "", line(map(escape_markdown, table.headers)), line(rules)]
    return "\n".join([*head, *rows, *notes]) + "\n"


def escape_markdown(text: str) -> str:
    """Escape what Markdown would take for markup."""
    return re.sub(r"([\\`*_|<\[\]~])", r"\\\1", text)


def _markdown_cell(cell: str) -> str:
    return f"**{escape_markdown(cell)}**" if isinstance(cell, Best) else escape_markdown(cell)


def _latex(table: Table) -> str:
    """Return the table as a `table` environment; the preamble needs booktabs."""
    headers: dict[object, str] = dict(enumerate(map(_escape_latex, table.headers)))
    cells = pd.DataFrame(table.cells, columns=range(len(headers)), dtype=object)  # two headers may be equal
    style = cells.style.hide(axis="index").format(lambda cell: _escape_latex(str(cell)))
    style = style.map(lambda cell: "textbf:--rwrap;" if isinstance(cell, Best) else "")
    style = style.format_index(headers.__getitem__, axis=1)
    text: str = style.to_latex(
        hrules=True,
        column_format="l" * len(table.left) + "r" * len(table.right),
        caption=_escape_latex(" ".join([f"{table.title}.", *table.notes])),
        position_float="centering",
    )
    # A minus sign is longer than a hyphen.
    return re.sub(r"(?<![\w.\-])-(?=\d)", "$-$", text.translate(SYMBOLS))


ESCAPED = str.maketrans(
    {
        **{mark: f"\\{mark}" for mark in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
)
"""How LaTeX is told to print the characters that are commands to it."""


def _escape_latex(text: str) -> str:
    """Escape the characters that are commands to LaTeX."""
    return text.translate(ESCAPED)


def _csv(tables: Sequence[Table]) -> str:
    several = len(tables) > 1
    names = {"sweep": several and all(table.sweep for table in tables)}
    names["table"] = several and len({table.sweep for table in tables}) < len(tables)
    labelled = []
    for table in tables:
        labels = {"sweep": table.sweep, "table": table.title}
        shown = pd.DataFrame({name: [labels[name]] * len(table.data) for name, wanted in names.items() if wanted})
        labelled.append(pd.concat([shown, table.data.reset_index(drop=True)], axis="columns"))
    # Columns of numbers keep their type where another table lacks them.
    text: str = pd.concat([frame.astype(object) for frame in labelled]).to_csv(index=False, lineterminator="\n")
    return text


def _object(table: Table) -> dict[str, Any]:
    rows = table.data.astype(object).to_dict("records")
    return {
        "title": table.title,
        "notes": table.notes,
        "rows": [{str(name): _json_value(value) for name, value in row.items()} for row in rows],
    }


def _json_value(value: Any) -> Any:
    """Return the value, or None where it is missing or not finite."""
    return None if pd.isna(value) or (isinstance(value, float) and not math.isfinite(value)) else value


def write(file: Path, text: str, what: str) -> None:
    """Write a file whole or not at all.

    Args:
        file: the path.
        text: the content.
        what: a name of the content for the error message.

    Raises:
        BadInputError: it can't be written.
    """
    part = file.with_name(f".{uuid4().hex}.tmp")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(file)
    except OSError as problem:
        raise BadInputError(f"{what} can't be written to {str(file)!r}: {problem.strerror or problem}.") from None
    finally:
        part.unlink(missing_ok=True)
