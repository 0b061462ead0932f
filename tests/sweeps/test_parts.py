import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.errors import BadInputError
from study.trial import Trial
from sweeps import estimate, registry
from sweeps.bundles import packable_groups
from sweeps.parts import Part, divide
from sweeps.plan import Plan
from sweeps.sweep import Scale

TRIALS = st.lists(
    st.builds(
        Trial,
        architecture=st.sampled_from(["lenet", "resnet18"]),
        norm=st.sampled_from(["batch", "none"]),
        k=st.sampled_from([0.1, 0.2, 0.3]),
        epochs=st.integers(1, 5),
        seed=st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True).map(tuple),
    ),
    max_size=40,
    unique_by=lambda trial: trial.id,
)


def work(trials: tuple[Trial, ...]) -> float:
    return sum(estimate.flops(trial) or 0.0 for trial in trials)


@given(trials=TRIALS, count=st.integers(1, 9))
def test_every_trial_is_in_exactly_one_part_and_the_parts_have_about_the_same_work(trials: list[Trial], count: int):
    parts = divide(trials, count)
    assert len(parts) == count
    assert sorted(trial.id for part in parts for trial in part) == sorted(trial.id for trial in trials)
    assert all(list(part) == [trial for trial in trials if trial in part] for part in parts)
    loads = [work(part) for part in parts]
    assert max(loads) - min(loads) <= max([work((trial,)) for trial in trials], default=0.0) * (1 + 1e-9)


@given(trials=TRIALS, count=st.integers(1, 9), order=st.randoms(use_true_random=False))
def test_the_parts_depend_on_which_trials_there_are_and_on_nothing_else(trials, count, order):
    shuffled = list(trials)
    order.shuffle(shuffled)
    assert [set(part) for part in divide(shuffled, count)] == [set(part) for part in divide(trials, count)]
    assert Part(1, count).name(Plan("test", 1, tuple(shuffled))) == Part(1, count).name(Plan("test", 1, tuple(trials)))


def test_each_part_has_its_share_of_what_trains_side_by_side():
    """An arm with batch norm takes longer than one without, which operations don't tell."""
    plan = registry.sweep("label_noise").plan(Scale.quick, {"k": [0.05, 0.1, 0.15, 0.2]})
    groups = packable_groups(plan.trials)
    assert len(groups) > 1
    for part in divide(plan.trials, 2):
        assert {sum(trial in part for trial in group) for group in groups} == {2}


def test_networks_whose_operations_are_unknown_are_divided_by_members_and_epochs():
    trials = [Trial(architecture="mine:network", epochs=epochs, k=0.1) for epochs in (8, 4, 3, 1)]
    assert [[trial.epochs for trial in part] for part in divide(trials, 2)] == [[8], [4, 3, 1]]


def test_a_part_is_named_after_its_plan_and_the_number_of_parts():
    plan = registry.sweep("quickstart").plan(Scale.quick)
    other = registry.sweep("quickstart").plan(Scale.quick, {"k": [0.2]})
    names = {Part(*part).name(which) for part in ((1, 2), (2, 2), (1, 3)) for which in (plan, other)}
    assert len(names) == 6
    assert len({name.rpartition("-")[0] for name in names}) == 4


@pytest.mark.parametrize("text", ["0/4", "5/4", "a/b", "1/0", "0/0", "-1/4", "1/4/2", "2", "", "1/٤", "1 / 4"])
def test_a_part_that_is_not_there_is_refused(text: str):
    with pytest.raises(BadInputError, match="shard"):
        Part.parse(text)


def test_more_parts_than_trials_leave_some_without_any():
    plan = registry.sweep("quickstart").plan(Scale.quick)
    parts = [Part(number, 7).of(plan) for number in range(1, 8)]
    assert [len(part.trials) for part in parts] == [1, 1, 1, 1, 0, 0, 0]
    assert str(Part.parse("2/7")) == "2/7"
