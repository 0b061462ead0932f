"""Each setting is stated once: a line in `study/settings.py` adds one everywhere."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from study.setting import Interval, Stage
from study.settings import SETTINGS, format_value, names_where
from study.trial import FEWEST_MODELS, MODELS, Trial, check

ROOT = Path(__file__).parents[2]
LINE = '    mixup: float = setting(0.0, Stage.TRAINING, "The strength of mixup.", within="[0, 1)", unit="fraction")\n'
BEFORE = "    optimizer: str = setting("
WITHOUT_UNIT = ("lr", "norm_eps", "weight_decay", "seed")
"""The settings whose numbers count and measure nothing that has a name."""
QUICK = ("k=0.1", "epochs=1", "subset=100", "batch_size=50")


@pytest.mark.parametrize(
    ("stated", "inside", "outside", "words"),
    [
        ("[0, 1)", (0, 0.5), (-0.1, 1, 2), "in [0, 1)"),
        ("(0, 1]", (0.1, 1), (0, 1.1), "in (0, 1]"),
        ("(0, inf)", (1e-9, 1e9), (0, -1), "above 0"),
        ("[2, inf)", (2, 10**400), (1,), "2 or more"),
    ],
)
def test_an_interval_has_the_numbers_that_its_notation_says(stated, inside, outside, words):
    interval = Interval.parse(stated)
    assert all(number in interval for number in inside)
    assert not any(number in interval for number in outside)
    assert str(interval) == words


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_says_what_it_takes_and_what_it_means(name):
    setting = SETTINGS[name]
    assert setting.description.endswith(".")
    assert (setting.type is str) == bool(setting.choices)
    assert (setting.type is str) == (setting.within is None)
    assert bool(setting.unit) == (setting.type is not str and name not in WITHOUT_UNIT)


def test_how_many_models_there_are_by_default_and_at_least_is_said():
    assert f"{FEWEST_MODELS} or more, and {MODELS} where none is named" in SETTINGS["models"].description


def test_what_a_setting_depends_on_is_a_setting_that_some_values_of_switch_it_off():
    for name in names_where(lambda setting: setting.only_where is not None):
        other, has_meaning = SETTINGS[name].only_where
        assert check(name, SETTINGS[name].elsewhere) == SETTINGS[name].elsewhere
        assert not all(map(has_meaning, SETTINGS[other].choices or [SETTINGS[other].default]))


def test_the_stages_are_in_the_order_of_a_trial():
    assert list(Stage) == sorted(Stage, key=list(Stage).index)
    assert {setting.stage for setting in SETTINGS.values()} == set(Stage)


@pytest.mark.parametrize(
    ("value", "text"), [(1e-5, "0.00001"), (0.1, "0.1"), (3, "3"), ("none", "none"), ((0, 2), "0,2"), (1.0, "1")]
)
def test_a_value_is_written_as_its_user_would_type_it(value, text):
    assert format_value(value) == text


# One more setting is one more line


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source with one more setting, which is stated in one line and nowhere else."""
    folder = tmp_path_factory.mktemp("tree")
    for package in ("study", "sweeps", "analysis"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "study" / "settings.py"
    source = path.read_text()
    assert source.count(BEFORE) == 1
    path.write_text(source.replace(BEFORE, LINE + BEFORE))
    return folder


def python(tree: Path, *arguments: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def evaluate(tree: Path, imports: str, expression: str) -> Any:
    """What an expression is worth in the tree, as JSON."""
    return json.loads(python(tree, "-c", f"import json, study\n{imports}\nprint(json.dumps({expression}))"))


def test_a_new_setting_changes_no_id_where_it_is_at_its_default(tree):
    expression = "[Trial(k=0.1).id, Trial(k=0.1, mixup=0).id, Trial(k=0.1, mixup=0.5).id, study.__file__]"
    bare, default, other, path = evaluate(tree, "from study.trial import Trial", expression)
    assert Path(path).is_relative_to(tree)
    assert bare == default == Trial(k=0.1).id
    assert other != bare


def test_a_new_setting_is_listed_with_all_that_is_stated_of_it(tree):
    (line,) = (line for line in python(tree, "-m", "study", "settings").splitlines() if "mixup" in line)
    cells = [cell.strip() for cell in re.split("[│|]", line)]
    assert [cell for cell in cells if cell] == [
        "mixup",
        "0",
        "a number in [0, 1)",
        "fraction",
        "training",
        "The strength of mixup.",
    ]


def test_a_new_setting_is_parsed_and_checked(tree):
    expression = "[Trial.of({'mixup': value}).mixup for value in parse(['mixup=0,1e-1'])['mixup']]"
    assert evaluate(tree, "from study.trial import Trial, parse", expression) == [0.0, 0.1]
    refused = subprocess.run(
        [sys.executable, "-m", "study", "run", "mixup=1"], cwd=tree, capture_output=True, text=True, check=False
    )
    assert (refused.returncode, refused.stderr) == (2, "error: mixup must be in [0, 1), not 1.\n")


@pytest.mark.slow
def test_a_new_setting_is_recorded(tree):
    options = ("--device", "cpu", "--backend", "single", "--results", "kept")
    python(tree, "-m", "study", "run", *QUICK, "mixup=0.5", *options)
    (shard,) = (tree / "kept" / "trials" / "members").glob("*.parquet")
    column = pq.read_schema(shard).field("mixup")
    assert column.type == "double"
    assert column.metadata == {b"description": b"The strength of mixup.", b"unit": b"fraction"}
    assert pq.read_table(shard, columns=["mixup", "status"]).to_pylist() == [{"mixup": 0.5, "status": "ok"}]


@pytest.mark.parametrize("golden", sorted((ROOT / "tests" / "golden").glob("schema_*")), ids=lambda path: path.name)
def test_shards_of_before_a_new_setting_are_read_with_its_default(tree, golden):
    shards = golden / "shards"
    assert list(shards.glob("quickstart/members/*.parquet"))
    rows = evaluate(
        tree,
        "from study.record.results import Results",
        f"Results.at({str(shards)!r}).read('quickstart', 'members', ['trial', 'mixup']).to_pylist()",
    )
    assert {row["trial"] for row in rows} == {path.stem for path in shards.glob("quickstart/members/*.parquet")}
    assert {row["mixup"] for row in rows} == {0.0}


def test_a_sweep_that_was_run_before_a_new_setting_is_done(tree):
    results = str(ROOT / "tests" / "golden" / "schema_2" / "shards")
    status = python(tree, "-m", "sweeps", "status", "quickstart", "--results", results)
    assert "0 missing" in status


def test_a_new_setting_is_an_axis_of_every_sweep_and_tells_trials_and_cells_apart(tree):
    plan = python(tree, "-m", "sweeps", "plan", "quickstart", "--set", "mixup=0,0.5", "--set", "k=0.1")
    assert re.search(r"\bmixup\b", plan)
    assert "4 missing" in plan
    imports = (
        "from study.trial import Trial\nfrom study.training.loop import SHARED\n"
        "from sweeps.bundles import packable_groups\nfrom analysis.cells import SETTINGS"
    )
    groups = "packable_groups([Trial(mixup=0), Trial(mixup=0.5)])"
    expression = f"['mixup' in SHARED, len({groups}), 'mixup' in SETTINGS]"
    assert evaluate(tree, imports, expression) == [True, 2, True]
