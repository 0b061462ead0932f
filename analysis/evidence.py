"""The evidence: what verdicts rest on, taken from a results folder into one small enough for version control."""

import hashlib
import json
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.load import no_records
from study.data import folders
from study.errors import BadInputError, unknown
from study.record.compaction import FOLDER
from study.record.excerpt import Excerpt, Rows, excerpt, write
from study.record.results import Results
from study.record.schema import COMMIT, DEFAULTS, SCHEMAS, versioned
from study.settings import FOLDER_FIELDS
from study.storage.location import split

MOST_BYTES = 5_000_000
"""The most that all of the evidence may have."""
LEFT_OUT = ("samples", "images")
"""The tables that have a row a sample, or pictures: they are never evidence, for they are far too large."""
TABLES = tuple(table for table in SCHEMAS if table not in LEFT_OUT)
NAMED = 3
"""The most sweeps that are named of those that take too much."""
WITH_EPOCHS = tuple(table for table in TABLES if "epoch" in SCHEMAS[table].names and table != COMMIT)
"""The tables that may be thinned."""
OPTIONS_WITH_PATHS = {"--results": "results", "--data-dir": "data"}
"""The options of a command that name folders of the machine, and what a reader is told to put there."""
PATH = re.compile(r"(^|[=:,])(?:\.{0,2}/)[^,]*?([^,/]+)/?(?=,|$)")
"""A path in a part of a command, absolute or from a folder above, and what is before its last name."""


@dataclass(frozen=True)
class Taken:
    """What was taken in of one sweep.

    Attributes:
        sweep: the sweep's name.
        trials: how many trials there are now.
        added: how many of them were not there before.
        replaced: how many were, with other rows.
        sizes: the bytes of each table's file.
        bytes: what the sweep has now, its plans included.
    """

    sweep: str
    trials: int
    added: int
    replaced: int
    sizes: Mapping[str, int]
    bytes: int

    @classmethod
    def of(cls, content: Excerpt, size: int) -> "Taken":
        """Return what was taken in, given the bytes that the sweep has now."""
        trials = len(content.trials.get(COMMIT, ()))
        sizes = {table: len(file) for table, file in content.files.items()}
        return cls(content.sweep, trials, len(content.added), len(content.replaced), sizes, size)


def take(
    results: Results,
    into: Results,
    sweep: str | None = None,
    without: Collection[str] = (),
    every: Mapping[str, int] | None = None,
    most: int = MOST_BYTES,
) -> list[Taken]:
    """Put what verdicts rest on from a results folder into the evidence: all trials that are recorded, and the plans.

    A trial takes the place of what there is of it, unless it has failed here and not there. Whatever else there is
    stays. Nothing is written where all together would be too large.

    Args:
        results: the results folder, whose runs may go on.
        into: the evidence, a results folder of its own; made where there is none.
        sweep: the sweep; by default all.
        without: the tables that are left out.
        every: by table, the epochs to keep: the multiples of the number, and each member's first and last.
        most: the bytes that all of it may have.

    Raises:
        BadInputError: there is no such folder, sweep or table, or nothing in the folder, a file can't be read, or it
            would be too large.
    """
    _check_tables(without, every or {})
    names = results.sweeps()
    if not names:
        raise no_records(results)
    if sweep is not None and sweep not in names:
        raise unknown(f"sweep in {results}", sweep, names)
    into.check_writable()
    taken = []
    plans: dict[str, dict[str, dict[str, Any]]] = {}
    for name in [sweep] if sweep else names:
        rows = _rows(results, into, name, without)
        plans[name] = dict(_plans(results, name))
        taken.append(excerpt(into, name, rows, every))
    sizes = _sizes(into, taken, plans)
    if sum(map(sum, sizes.values())) > most:
        raise _too_large(into, sizes, most)
    for content in taken:
        for name, plan in plans[content.sweep].items():
            into.save_plan(content.sweep, name, plan)
        write(into, content)
    return [Taken.of(content, sum(sizes[content.sweep])) for content in taken]


def parse_every(assignments: Iterable[str]) -> dict[str, int]:
    """Return the numbers by table of the command line's `TABLE=N`.

    Raises:
        BadInputError: one is of another form, or no number above 0.
    """
    every = {}
    for assignment in assignments:
        table, _, number = assignment.partition("=")
        if not number.isdecimal() or int(number) == 0:
            raise BadInputError(f"--every {assignment} is not of the form TABLE=N, with a whole number above 0.")
        every[table] = int(number)
    return every


def _check_tables(without: Collection[str], every: Mapping[str, int]) -> None:
    """Refuse a table that is none, or that has no epochs, or that a record can't be without."""
    leavable = [table for table in TABLES if table != COMMIT]
    for tables, known in ((without, leavable), (every, WITH_EPOCHS)):
        for table in tables:
            if table not in known:
                raise unknown("table", table, known)


def _rows(results: Results, into: Results, sweep: str, without: Collection[str]) -> Rows:
    """Return the rows that are taken of a sweep, by table: of no trial that could not be run and has results there."""
    recorded = results.done(sweep)
    trials = recorded - (into.ran_of(sweep, recorded) - results.ran_of(sweep, recorded))
    return {table: results.read(sweep, table, trials=trials) for table in TABLES if table not in without}


def _sizes(into: Results, taken: Sequence[Excerpt], plans: Mapping[str, Mapping[str, Any]]) -> dict[str, list[int]]:
    """Return the bytes of each file that each sweep will have, those included that nothing is taken of."""
    sizes = {}
    for name in {*into.sweeps(), *plans}:
        before = {file.name: file.size for file in into.store.list(f"{name}/plans")}
        written = {
            f"{name}/plans/{plan}.json": len(json.dumps(versioned(of))) for plan, of in plans.get(name, {}).items()
        }
        sizes[name] = list({**before, **written}.values())
        if name not in plans:
            sizes[name] += [file.size for folder in (*SCHEMAS, FOLDER) for file in into.store.list(f"{name}/{folder}")]
    for content in taken:
        sizes[content.sweep] += [*map(len, content.files.values()), len(content.manifest)]
    return sizes


def _too_large(into: Results, sizes: Mapping[str, Sequence[int]], most: int) -> BadInputError:
    """Return the refusal of what is too large, with what is the largest."""
    largest = sorted(sizes, key=lambda name: -sum(sizes[name]))[:NAMED]
    named = ", ".join(f"{name} {sum(sizes[name]):,}" for name in largest)
    return BadInputError(
        f"{into} would have {sum(map(sum, sizes.values())):,} bytes, more than {most:,} ({named}), and was left as it "
        f"was; keep fewer epochs, as with --every layers=10, or leave a table out, as with --without margins."
    )


# The plans ------------------------------------------------------------------------------------------------------------


def _plans(results: Results, sweep: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what the launches of a sweep set out to run, in a small form, each by its name.

    Settings at their default are left out, as they are of a trial's id, and folders of the machine have the names under
    which they are recorded.
    """
    members = results.read(sweep, COMMIT, ["cell", *FOLDER_FIELDS]).to_pylist()
    recorded = {row["cell"]: row for row in members}
    for plan in results.plans(sweep):
        names = _folder_names(plan["trials"], recorded)
        trials = [_small(entry, names) for entry in plan["trials"]]
        told = {"command": public_command(str(plan["command"]))} if "command" in plan else {}
        ids = json.dumps(sorted(entry["id"] for entry in trials))
        name = hashlib.sha256(ids.encode()).hexdigest()[:16]
        yield name, {"sweep": plan["sweep"], "version": plan["version"], "trials": trials, **told}


def _small(entry: Mapping[str, Any], names: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """Return a trial of a plan without the settings at their default, with the names of its datasets."""
    told = {name: value for name, value in entry.items() if name not in DEFAULTS or value != DEFAULTS[name]}
    return told | {name: names.get((name, told[name]), told[name]) for name in FOLDER_FIELDS if name in told}


def _folder_names(
    entries: Sequence[Mapping[str, Any]], recorded: Mapping[str, Mapping[str, Any]]
) -> dict[tuple[str, str], str]:
    """Return the names of a plan's datasets that are folders, by setting and value: as recorded, or without a path."""
    found: dict[tuple[str, str], str] = {}
    for name in FOLDER_FIELDS:
        for entry in entries:
            parts = folders.parse(str(entry.get(name, "")))
            if parts is not None:
                kind, folder = parts
                found.setdefault((name, entry[name]), f"{kind}:{split(folder)[1]}")
                if entry["cell"] in recorded:
                    found[name, entry[name]] = recorded[entry["cell"]][name]
    return found


def public_command(command: str) -> str:
    """Return a command without the folders of the machine that it was typed on.

    Example:
        >>> public_command("python -m sweeps run ood --set dataset=parquet:/home/me/cifar10 --results /home/me/r")
        'python -m sweeps run ood --set dataset=parquet:path/to/cifar10 --results results'
    """
    shown, option = [], ""
    for part in shlex.split(command):
        name, equals, _ = part.partition("=")
        if option in OPTIONS_WITH_PATHS:
            shown.append(OPTIONS_WITH_PATHS[option])
        elif equals and name in OPTIONS_WITH_PATHS:
            shown.append(f"{name}={OPTIONS_WITH_PATHS[name]}")
        else:
            shown.append(part if "://" in part else PATH.sub(r"\1path/to/\2", part))
        option = part
    return shlex.join(shown)
