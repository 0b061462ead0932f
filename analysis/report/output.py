"""One way out for every table: to a terminal, into a paper, or as numbers for another program."""

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
from study.terminal import console, print_table

FORMATS = ("text", "markdown", "latex", "csv", "json")
SYMBOLS = str.maketrans({"±": r"$\pm$", "≠": r"$\neq$", "<": "$<$", ">": "$>$", "≤": r"$\leq$", "≥": r"$\geq$"})
"""What LaTeX has no letter for outside of formulas."""


class Best(str):
    """A cell that is the best of those it stands among."""


@dataclass
class Table:
    """A table in both of its forms: the numbers, and the cells that a person reads.

    Attributes:
        title: what is above it.
        data: one row for each row of cells, with the numbers as they are; CSV and JSON have these.
        left: the headers of the columns of words.
        right: the headers of the columns of numbers, which come after them.
        cells: the rows of cells; text, Markdown and LaTeX have these.
        notes: sentences below it.
    """

    title: str
    data: pd.DataFrame
    left: Sequence[str]
    right: Sequence[str]
    cells: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def headers(self) -> list[str]:
        """Those of all columns."""
        return [*self.left, *self.right]

    def add_row(self, *cells: str) -> None:
        """One more row of cells."""
        self.cells.append(cells)

    def rich(self) -> rich_table.Table:
        """As a terminal shows it; the best of several cells has a star."""
        shown = rich_table.Table(title=self.title, title_justify="left")
        # Where the terminal is too narrow, cells go on in a second line rather than lose their end.
        for name in self.left:
            shown.add_column(name, overflow="fold")
        for name in self.right:
            shown.add_column(name, justify="right", overflow="fold")
        for row in self.cells:
            shown.add_row(*(f"{cell} *" if isinstance(cell, Best) else cell for cell in row))
        return shown


@dataclass(frozen=True)
class Output:
    """Where a command's tables go, and as what.

    Attributes:
        form: one of `FORMATS`.
        file: the file that has all of them, one after another; None for standard output.
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
            write(self.file, rendered(tables, self.form), "tables")
            self.say(f"tables: {self.file}")
        elif self.form == "text":
            for table in tables:
                print_table(table.rich())
                for note in table.notes:
                    console.print(note, soft_wrap=True)
        else:
            print(rendered(tables, self.form), end="")
            if self.form == "csv":  # which has no place for them
                for note in (note for table in tables for note in table.notes):
                    self.say(note)

    def say(self, message: str) -> None:
        """Say something beside the tables: where text is read, with them, and else where it is in no program's way."""
        if self.form == "text":
            console.print(message, soft_wrap=True)
        else:
            print(message, file=sys.stderr)


def rendered(tables: Sequence[Table], form: str) -> str:
    """All tables in one of `FORMATS`, as a file has them.

    CSV has a table for each with an empty line between them; JSON a list of objects with `title`, `notes` and `rows`,
    where what is missing or not finite is null.
    """
    if form == "json":
        return json.dumps([_object(table) for table in tables], indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    each = {"text": _text, "markdown": _markdown, "latex": _latex, "csv": _csv}[form]
    return "\n".join(each(table) for table in tables)


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
    rows = [line(_emphasized(cell) for cell in row) for row in table.cells]
    notes = [text for note in table.notes for text in ("", _plain(note))]
    head = [f"**{_plain(table.title)}**", "", line(map(_plain, table.headers)), line(rules)]
    return "\n".join([*head, *rows, *notes]) + "\n"


def _plain(text: str) -> str:
    """The text with nothing in it that Markdown would take for its own."""
    return re.sub(r"([\\`*_|<\[\]~])", r"\\\1", text)


def _emphasized(cell: str) -> str:
    return f"**{_plain(cell)}**" if isinstance(cell, Best) else _plain(cell)


def _latex(table: Table) -> str:
    """A `table` environment, for which the preamble needs booktabs."""
    headers: dict[object, str] = dict(enumerate(map(_escaped, table.headers)))
    shown = pd.DataFrame(table.cells, columns=range(len(headers)), dtype=object)  # headers may come twice
    style = shown.style.hide(axis="index").format(str, escape="latex")
    style = style.map(lambda cell: "textbf:--rwrap;" if isinstance(cell, Best) else "")
    style = style.format_index(headers.__getitem__, axis=1)
    text: str = style.to_latex(
        hrules=True,
        column_format="l" * len(table.left) + "r" * len(table.right),
        caption=_escaped(" ".join([f"{table.title}.", *table.notes])),
        position_float="centering",
    )
    # A hyphen is shorter than a minus sign.
    return re.sub(r"(?<![\w.\-])-(?=\d)", "$-$", text.translate(SYMBOLS))


def _escaped(text: str) -> str:
    """As pandas escapes the cells; of what it knows, titles and headers can have these."""
    return re.sub(r"([&%$#_{}])", r"\\\1", text.replace("\\", r"\textbackslash ")).replace("^", r"\textasciicircum ")


def _csv(table: Table) -> str:
    text: str = table.data.to_csv(index=False, lineterminator="\n")
    return text


def _object(table: Table) -> dict[str, Any]:
    rows = table.data.astype(object).to_dict("records")
    return {
        "title": table.title,
        "notes": table.notes,
        "rows": [{str(name): _known(value) for name, value in row.items()} for row in rows],
    }


def _known(value: Any) -> Any:
    """The value, or None where it is none that JSON has."""
    return None if pd.isna(value) or (isinstance(value, float) and not math.isfinite(value)) else value


def write(file: Path, text: str, what: str) -> None:
    """Write a file whole or not at all.

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
