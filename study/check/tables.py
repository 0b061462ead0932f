"""What the checks of a device have found, for the terminal."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from study.check.checks import Answer, failed
from study.check.finding import Subject, Verdict
from study.record.provenance import device_name
from study.terminal import format_duration


def line(answer: Answer) -> str:
    """Return a line on a check that has just been made."""
    made = answer.finding.verdict is not Verdict.NOT_APPLICABLE
    took = f", took {format_duration(answer.seconds)}" if made else ""
    return f"{answer.check.name} {answer.finding.verdict.value}{took}"


def of(answers: Sequence[Answer]) -> list[Table]:
    """Return a table of the verdicts, and those of speed and of memory where they were measured."""
    verdicts = Table("check", "question", "verdict", "what was found")
    for each in answers:
        verdicts.add_row(each.check.name, each.check.question, each.finding.verdict.value, each.finding.sentence)
    figures = {name: value for each in answers for name, value in each.finding.figures.items()}
    tables = [verdicts]
    if figures.get("packs"):
        tables.append(_memory(figures["packs"]))
    if figures.get("ways"):
        tables.append(_speeds(figures["ways"]))
    return tables


def _speeds(ways: Sequence[dict[str, Any]]) -> Table:
    table = Table(
        *("network", "way to train", "members", "model-samples/s", "of the plain eager loop"),
        caption="A model-sample is a sample times the members that are trained on it. Each way takes turns with the "
        "plain eager loop, which trains one network and launches each operation by itself; a ratio is the median over "
        "turns.",
    )
    for row in ways:
        measured = ("", row["note"]) if row["ratio"] is None else (f"{row['rate']:,.0f}", f"{row['ratio']:.2f}")
        table.add_row(row["network"], row["way"], str(row["members"]), *measured)
    return table


def _memory(packs: Sequence[dict[str, Any]]) -> Table:
    table = Table("network", "members in a pack", "MiB", "MiB a member")
    for row in packs:
        mib = row["mib"]
        took = ("out of memory", "") if mib is None else (f"{mib:,.0f}", f"{mib / row['members']:,.0f}")
        table.add_row(row["network"], str(row["members"]), *took)
    return table


def conclusion(answers: Sequence[Answer], subject: Subject) -> str:
    """Return a sentence on the device."""
    name = device_name(subject.device)
    if wrong := failed(answers):
        return f"{name}: {', '.join(wrong)} failed; results of this device are not to be trusted before that is known."
    passed = sum(each.finding.verdict is Verdict.PASSED for each in answers)
    left_out = len(answers) - passed
    return f"{name}: {passed} checks passed, none failed" + (f", {left_out} not applicable." if left_out else ".")
