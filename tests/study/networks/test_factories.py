import sys

import pytest

from study import imports
from study.errors import BadInputError
from study.networks import factories


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current directory, with the import state put back afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refusal(architecture: str) -> str:
    with pytest.raises(BadInputError) as caught:
        factories.load(architecture)
    message = str(caught.value)
    assert message.count("\n") == 0
    return message


@pytest.mark.parametrize(
    ("architecture", "parts"),
    [
        ("nets:build", ("nets", "build")),
        ("my_nets.v2.small:Net_3", ("my_nets.v2.small", "Net_3")),
        ("größe:netz", ("größe", "netz")),
        ("lenet", None),
        ("nets", None),
        ("nets:", None),
        (":build", None),
        ("nets:build()", None),
        ("nets:a.b", None),
        ("nets:a:b", None),
        (".nets:build", None),
        ("nets..v2:build", None),
        ("2nets:build", None),
        ("nets:2build", None),
        ("my-nets:build", None),
        ("nets:build\n", None),
        (" nets:build", None),
    ],
)
def test_a_factory_is_a_dotted_module_a_colon_and_a_name(architecture, parts):
    assert imports.parse(architecture) == parts


def test_the_current_directory_comes_first_as_with_python_m(here, monkeypatch):
    elsewhere = here / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "user_net.py").write_text("def build(): return 'elsewhere'")
    (here / "user_net.py").write_text("def build(): return 'here'")
    monkeypatch.syspath_prepend(elsewhere)
    assert factories.load("user_net:build")() == "here"


def test_a_module_may_stand_in_a_package_and_import_its_neighbours(here):
    (here / "user_package").mkdir()
    (here / "user_package" / "sizes.py").write_text("WIDTH = 3")
    (here / "user_package" / "nets.py").write_text("from user_package.sizes import WIDTH\ndef build(): return WIDTH")
    assert factories.load("user_package.nets:build")() == 3


def test_a_class_is_a_factory(here):
    (here / "user_net.py").write_text("class Net: pass")
    assert type(factories.load("user_net:Net")()).__name__ == "Net"


def test_a_module_that_is_not_there_is_named_with_the_place_that_was_searched(here):
    assert refusal("no_such_module:build") == (
        f"there is no module 'no_such_module' in {here} or among the installed packages."
    )
    (here / "user_package").mkdir()
    assert "no module 'user_package.nets'" in refusal("user_package.nets:build")
    assert "no module 'json.nets'" in refusal("json.nets:build")


def test_a_name_that_is_not_there_gets_the_nearest_that_can_be_called(here):
    (here / "user_net.py").write_text("import math\nbuilt = 3\ndef build(): pass\ndef _buidl(): pass")
    assert refusal("user_net:buidl") == "unknown network of module user_net 'buidl': did you mean 'build'?"
    assert refusal("user_net:xyzzy") == "unknown network of module user_net 'xyzzy': choose from build."
    (here / "user_empty.py").write_text("")
    assert refusal("user_empty:build") == "module user_empty has no 'build', nor anything else that could be a network."


def test_what_cannot_be_called_is_refused(here):
    (here / "user_net.py").write_text("build = 3")
    assert refusal("user_net:build") == "architecture=user_net:build can't be called: it is of type int."


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero."),
        ("def build(:", "SyntaxError: "),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'."),
        ("from math import no_such_name", "ImportError: cannot import name 'no_such_name'"),
        ("raise ValueError", "ValueError."),
        ("raise ValueError('one.\\ntwo')", "ValueError: one."),
        ("raise SystemExit(3)", "SystemExit: 3."),
    ],
)
def test_an_import_that_fails_says_why_in_one_line(here, source, said):
    (here / "user_broken.py").write_text(source)
    assert refusal("user_broken:build").startswith(f"module user_broken can't be imported: {said}")


def test_a_name_without_a_factory_is_refused(here):
    assert refusal("lenett") == "lenett is not of the form MODULE:NAME."
