import pytest

from study.errors import unknown


@pytest.mark.parametrize(
    ("name", "choices", "hint"),
    [
        ("quickstrat", ["quickstart", "ood"], "did you mean 'quickstart'?"),
        ("xyzzy", ["quickstart", "ood"], "choose from ood, quickstart."),
        ("quickstart", [], "there is none."),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_all_or_that_there_is_none(name, choices, hint):
    assert str(unknown("sweep", name, choices)) == f"unknown sweep {name!r}: {hint}"
