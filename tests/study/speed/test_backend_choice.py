import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from study.engine import BACKENDS
from study.errors import BadInputError
from study.speed import backend_choice, racing
from study.speed.backend_choice import time_backends, timings_of
from study.speed.racing import Candidate, race
from study.speed.throughput import engine_rate
from study.speed.timings import Choice, fastest, key_of
from study.trial import Trial
from study.worker import has_environment
from tests.study.speed import contenders

TRIAL = Trial(batch_size=16)
SHAPE = (1, 16, 16)


def choose(trial: Trial, shape: tuple[int, int, int], classes: int, members: int, *how: Any, **known: Any) -> Choice:
    return fastest(timings_of(trial, shape, classes, members, *how, **known), members)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of timings, in a cache folder of the test's own; they may be rough."""
    monkeypatch.setattr(backend_choice, "LARGEST_PACK", {"cpu": 4})
    monkeypatch.setattr(racing, "MOST_S", 0.01)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "normleak" / "tuning.json"


def all_timed(members: int = 2, **asked: bool) -> Sequence[Choice]:
    return backend_choice.timed(TRIAL, SHAPE, 4, members, "cpu", **asked)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_that_the_user_names_is_the_one(cache, backend):
    found = choose(TRIAL, SHAPE, 4, 3, "cpu", backend)
    assert found.backend == backend
    assert 1 <= found.members <= 3
    assert found.seconds > 0


def test_a_backend_that_is_none_is_refused(cache):
    with pytest.raises(BadInputError, match="unknown backend 'groped': did you mean 'grouped'"):
        choose(TRIAL, SHAPE, 4, 3, "cpu", "groped")


def test_a_named_backend_that_does_not_fit_is_refused(cache):
    with pytest.raises(BadInputError, match="can't be put side by side"):
        choose(Trial(architecture="vit", norm="layer", batch_size=4), SHAPE, 4, 2, "cpu", "grouped")


@pytest.mark.slow
def test_what_does_not_fit_is_passed_over(cache):
    timings = time_backends(Trial(architecture="vit", norm="layer", batch_size=4), SHAPE, 4, "cpu")
    assert {timing.backend for timing in timings} == {"single", "vmap"}


def test_a_candidate_that_cannot_take_a_step_is_none(cache):
    # Batch norm under vmap does not take the mixed precision of bf16.
    timings = time_backends(replace(TRIAL, precision="bf16"), SHAPE, 4, "cpu")
    assert {timing.backend for timing in timings} >= {"single", "grouped"}


def timed(times: dict[tuple[str, int], float], monkeypatch: pytest.MonkeyPatch, unit: float = 1e-5) -> str:
    """Return the choice for 8 members if each candidate took that many units for a sample, and any other 20."""
    monkeypatch.setattr(
        backend_choice, "_timed_step", lambda name, members, *_: lambda: unit * times.get((name, members), 20.0)
    )
    return str(fastest(time_backends(TRIAL, SHAPE, 4, "cpu"), 8))


def test_the_fastest_is_chosen(monkeypatch):
    times = {("single", 1): 1.0, ("grouped", 1): 0.9, ("grouped", 2): 0.6}
    assert timed(times, monkeypatch) == "grouped x 2"


def test_a_large_pack_is_tried_where_smaller_ones_are_no_faster_than_the_plain_loop(monkeypatch):
    times = {("single", 1): 1.0, ("grouped", 1): 5.0, ("grouped", 2): 2.0, ("grouped", 4): 2.0, ("grouped", 8): 0.5}
    assert timed(times, monkeypatch) == "grouped x 8"


def test_where_a_step_takes_long_no_larger_pack_is_tried(monkeypatch):
    times = {("single", 1): 1.0, ("grouped", 1): 0.9, ("grouped", 2): 0.8, ("grouped", 4): 0.1}
    # Steps of 16 samples: of two members they take 0.13 s and, below, 0.26 s.
    assert timed(times, monkeypatch, unit=0.005) == "grouped x 4"
    assert timed(times, monkeypatch, unit=0.01) == "grouped x 2"


def test_one_lucky_moment_does_not_win(monkeypatch):
    moments = iter([5e-6])  # of a pack that is otherwise a little slower than the plain loop

    def timed(name: str, members: int, *_: object) -> Callable[[], float]:
        if (name, members) == ("grouped", 1):
            return lambda: next(moments, 1.05e-5)
        return lambda: 1e-5 if name == "single" else 1.0

    monkeypatch.setattr(backend_choice, "_timed_step", timed)
    assert fastest(time_backends(TRIAL, SHAPE, 4, "cpu"), 8).backend == "single"


LENET = {
    **{("single", 1): 1.2e-4, ("grouped", 1): 1.0e-4, ("grouped", 2): 5.7e-5, ("grouped", 4): 4.3e-5},
    **{("grouped", 8): 3.5e-5, ("grouped", 16): 3.6e-5, ("vmap", 1): 2e-4, ("vmap", 4): 1.4e-4, ("vmap", 16): 1.25e-4},
}
"""The seconds of a sample of LeNet as they were timed on a core."""
PLAIN = {("single", 1): 1e-4, ("grouped", 1): 1.15e-4, ("grouped", 2): 1.15e-4, ("grouped", 4): 1.15e-4}
"""Those of a network that no pack makes faster."""


def noisy_race(truth: dict[tuple[str, int], float], noise: float, seed: int) -> list[Choice]:
    """Race candidates of known speed on a machine that changes each step by a random factor."""
    random = np.random.default_rng(seed)

    def step(name: tuple[str, int]) -> Callable[[], float]:
        return lambda: truth[name] * math.exp(noise * random.standard_normal())

    return race([Candidate(*name, step(name)) for name in truth], 64)


@pytest.mark.slow
@pytest.mark.parametrize("truth", [LENET, PLAIN])
def test_on_a_machine_that_is_noisy_by_a_factor_of_two_the_choice_costs_little(truth):
    costs = []
    for seed in range(100):
        choice = fastest(noisy_race(truth, math.log(2), seed), 16)
        costs.append(truth[choice.backend, choice.members] / min(truth.values()))
    assert sum(cost <= 1.1 for cost in costs) >= 95


def test_it_is_kept_how_noisy_the_machine_was_and_whether_the_fastest_became_known(monkeypatch):
    quiet = noisy_race(LENET, 0.03, seed=0)
    assert all(choice.settled and choice.noise < 0.1 for choice in quiet)
    monkeypatch.setattr(racing, "MOST_S", 1.0)
    noisy = noisy_race(LENET, math.log(2), seed=0)
    assert not any(choice.settled for choice in noisy)
    assert max(choice.noise for choice in noisy) > 0.5


@pytest.mark.parametrize(("noise", "anew"), [(0.1, True), (0.5, False)])
def test_what_stayed_unknown_is_timed_again_on_a_quieter_machine_where_that_is_asked_for(
    cache, monkeypatch, noise, anew
):
    kept, later = Choice("single", 1, 0.5, noise=0.6, settled=False), Choice("single", 1, 0.4)
    monkeypatch.setattr(backend_choice, "time_backends", lambda *_: [kept])
    assert choose(TRIAL, SHAPE, 4, 2, "cpu") == kept
    monkeypatch.setattr(backend_choice, "time_backends", lambda *_: [later])
    monkeypatch.setattr(backend_choice, "_noise", lambda *_: noise)
    assert choose(TRIAL, SHAPE, 4, 2, "cpu") == kept
    assert fastest(all_timed(again=True), 2) == (later if anew else kept)


# What choosing may cost


def timed_for(
    work: float, members: int, truth: dict[tuple[str, int], float], monkeypatch: pytest.MonkeyPatch
) -> list[Choice]:
    """Time candidates of known speed for so many samples of training, on a clock that their steps alone advance.

    What they took in all is `backend_choice.SPENT` then.
    """
    now = [0.0]

    def timed_step(name: str, size: int, *kind: object) -> Callable[[], float]:
        samples = int(kind[3])

        def step() -> float:
            seconds = truth.get((name, size), 1e-3)
            now[0] += seconds * size * samples
            return seconds

        return step

    monkeypatch.setattr(backend_choice, "_timed_step", timed_step)
    monkeypatch.setattr(backend_choice, "_clock", lambda _: lambda: now[0])
    choices = time_backends(TRIAL, SHAPE, 4, "cpu", members=members, work=work)
    monkeypatch.setattr(backend_choice, "SPENT", now[0], raising=False)
    return choices


def test_for_little_training_the_pack_of_all_members_is_timed_beside_the_plain_loop_and_few_others(monkeypatch):
    found = timed_for(1_000, 6, {**LENET, ("grouped", 6): 3.8e-5}, monkeypatch)
    assert [(each.backend, each.members) for each in found[:2]] == [("single", 1), ("grouped", 6)]
    assert len(found) < 4
    assert str(fastest(found, 6)) == "grouped x 6"
    assert {(each.settled, each.work) for each in found} == {(False, 1_000)}


def test_without_any_training_there_is_the_plain_loop_and_for_much_there_are_all(monkeypatch):
    assert [str(each) for each in timed_for(0, 8, LENET, monkeypatch)] == ["single"]
    found = timed_for(1e9, 8, LENET, monkeypatch)
    assert len(found) == 1 + 5 + 5
    assert {(each.settled, each.work) for each in found} == {(True, None)}


def test_a_pack_of_all_members_that_would_keep_the_device_busy_too_long_is_not_the_first(monkeypatch):
    slow = {name: 200 * seconds for name, seconds in LENET.items()}  # a step of 8 samples takes 0.19 s
    found = timed_for(10_000, 8, slow, monkeypatch)
    assert [(each.backend, each.members) for each in found[:2]] == [("single", 1), ("grouped", 1)]


@pytest.mark.parametrize("work", [10_000, 100_000, 1_000_000])
def test_on_a_noisy_machine_choosing_takes_little_of_what_there_is_to_train(monkeypatch, work):
    random = np.random.default_rng(0)

    class Noisy(dict[tuple[str, int], float]):
        def get(self, name: tuple[str, int], default: float = 0.0) -> float:
            return LENET.get(name, 1e-4) * math.exp(0.7 * random.standard_normal())

    timed_for(work, 8, Noisy(), monkeypatch)
    # Beside the share there are the first turns, whatever they take.
    assert 0.3 * work * LENET["single", 1] > backend_choice.SPENT


def test_what_was_timed_for_little_training_is_timed_anew_for_much_more(cache, monkeypatch):
    asked: list[float] = []

    def time_backends(*kind: object) -> list[Choice]:
        asked.append(float(kind[-1]))
        return [Choice("single", 1, 0.5, settled=False, work=float(kind[-1]))]

    monkeypatch.setattr(backend_choice, "time_backends", time_backends)
    monkeypatch.setattr(backend_choice, "_noise", lambda *_: pytest.fail("it is not the noise that cut it short"))
    for work in (100, 50, 299, 1000, 100):
        backend_choice.timed(TRIAL, SHAPE, 4, 2, "cpu", again=True, work=work)
    assert asked == [100, 1000]


def test_waiting_does_not_count_as_a_steps_time(monkeypatch):
    def training_pass(*_: object) -> Callable[[], int]:
        return lambda: time.sleep(0.2) or 16  # as where another process has the core

    monkeypatch.setattr(backend_choice, "training_pass", training_pass)
    assert backend_choice._timed_step("single", 1, TRIAL, SHAPE, 4, 16, "cpu")() * 16 < 0.1


def test_the_plain_loop_stands_unless_it_is_clearly_beaten(monkeypatch):
    assert timed({("single", 1): 1.0, ("grouped", 1): 0.98}, monkeypatch) == "single"
    assert timed({("single", 1): 1.0}, monkeypatch) == "single"


def test_a_choice_is_made_once_for_each_kind_of_network(cache, monkeypatch):
    first = choose(TRIAL, SHAPE, 4, 2, "cpu")
    monkeypatch.setattr(backend_choice, "time_backends", lambda *_: pytest.fail("it was known"))
    assert choose(replace(TRIAL, weight_decay=0.3, lr=1.0, epochs=7), SHAPE, 4, 2, "cpu") == first
    assert choose(TRIAL, SHAPE, 4, 5, "cpu").members <= 5
    assert len(json.loads(cache.read_text())) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"KIND": [{"backend": "single", "speed": 1}]}'])
def test_a_damaged_cache_is_made_anew(cache, content):
    cache.parent.mkdir()
    kind = key_of(TRIAL, SHAPE, 4, backend="single", process=(torch.get_num_threads(), has_environment()))
    cache.write_text(content.replace('"KIND"', json.dumps(kind)))
    assert choose(TRIAL, SHAPE, 4, 1, "cpu", "single").backend == "single"
    assert len(json.loads(cache.read_text())) == 1


# Processes that share a device


@pytest.mark.slow
@pytest.mark.parametrize(
    ("contender", "count"),
    [(contenders.waiting, 4), (contenders.one_at_a_time, 1), (contenders.with_room_for_two, 2)],
)
def test_as_many_processes_share_a_device_as_get_clearly_more_done(tmp_path, monkeypatch, contender, count):
    monkeypatch.setattr(backend_choice, "SIDE_BY_SIDE_S", 0.3)
    monkeypatch.setattr(backend_choice, "MARGIN", 0.75)  # the ratios are 0.5 and 1, but for what else the machine does
    arguments = [] if contender is contenders.waiting else [str(tmp_path / "lock")]
    assert backend_choice.fastest_process_count(contender, *arguments) == count


@pytest.mark.slow
def test_processes_that_train_are_timed_side_by_side(monkeypatch):
    monkeypatch.setattr(backend_choice, "SIDE_BY_SIDE_S", 0.1)
    monkeypatch.setattr(backend_choice, "MARGIN", 1000)
    monkeypatch.setattr(backend_choice, "MOST_WORKERS", 2)
    # By such a margin both have but to train.
    assert backend_choice.fastest_process_count(engine_rate, TRIAL, SHAPE, 4, 1, "cpu", "grouped", 2) == 2


def test_how_many_share_a_device_is_found_out_once_and_only_where_it_is_asked_for(cache, monkeypatch):
    counted: list[Choice] = []
    monkeypatch.setattr(backend_choice, "fastest_worker_count", lambda *given: counted.append(given[-1]) or 2)
    assert choose(TRIAL, SHAPE, 4, 2, "cpu").workers is None
    assert counted == []
    found = [fastest(all_timed(sharing=True), 2) for _ in range(2)]
    assert [each.workers for each in (*found, choose(TRIAL, SHAPE, 4, 2, "cpu"))] == [2, 2, 2]
    assert len(counted) == 1
    # Fewer members may train in another manner.
    assert fastest(all_timed(members=1, sharing=True), 1).workers == 2


def test_a_process_has_its_core_to_itself():
    assert backend_choice.fastest_worker_count(TRIAL, SHAPE, 4, "cpu", Choice("single", 1, 1.0)) == 1


def test_what_was_kept_before_processes_shared_a_device_still_counts(cache, monkeypatch):
    cache.parent.mkdir()
    kind = key_of(TRIAL, SHAPE, 4, process=(torch.get_num_threads(), has_environment()))
    cache.write_text(json.dumps({kind: [{"backend": "single", "members": 1, "seconds": 0.5}]}))
    monkeypatch.setattr(backend_choice, "time_backends", lambda *_: pytest.fail("it was known"))
    assert choose(TRIAL, SHAPE, 4, 2, "cpu") == Choice("single", 1, 0.5)
    assert fastest(all_timed(sharing=True), 2) == Choice("single", 1, 0.5, 1)


def test_where_nothing_can_be_kept_it_is_measured_each_time(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert choose(TRIAL, SHAPE, 4, 1, "cpu", "single").backend == "single"


def test_a_network_of_the_users_is_measured_each_time(cache):
    own = replace(TRIAL, architecture="study.networks.lenet:lenet")
    assert choose(own, SHAPE, 4, 1, "cpu", "single").backend == "single"
    assert not cache.exists()


@pytest.mark.parametrize(("architecture", "is_kept"), [("lenet", True), ("study.networks.lenet:lenet", False)])
def test_what_another_machine_of_the_kind_has_timed_counts_and_is_kept_of_a_built_in_network(
    cache, monkeypatch, architecture, is_kept
):
    own, told = Choice("single", 1, 0.5), (Choice("grouped", 1, 0.4), Choice("grouped", 4, 0.1))
    kind = replace(TRIAL, architecture=architecture), SHAPE, 4
    known = {backend_choice.key_here(*kind, "cpu", "auto"): told}
    monkeypatch.setattr(backend_choice, "time_backends", lambda *_: [own])
    assert choose(*kind, 2, "cpu", known={"of another device": told}) == own
    cache.unlink(missing_ok=True)
    assert [choose(*kind, members, "cpu", known=known) for members in (3, 5)] == list(told)
    assert choose(*kind, 5, "cpu") == (told[1] if is_kept else own)
    # What this machine had timed before stays, for the launch of others.
    choose(*kind, 5, "cpu", known=dict.fromkeys(known, (own,)))
    assert choose(*kind, 5, "cpu") == (told[1] if is_kept else own)


def test_what_is_known_is_of_use_where_nothing_can_be_kept(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    told = Choice("grouped", 1, 0.4)
    known = {backend_choice.key_here(TRIAL, SHAPE, 4, "cpu", "auto"): (told,)}
    assert choose(TRIAL, SHAPE, 4, 1, "cpu", known=known) == told
