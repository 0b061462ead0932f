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
