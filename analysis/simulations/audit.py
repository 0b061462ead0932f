"""The audit: every scenario drawn many times, on several processes, and what that says of each measure."""

import multiprocessing
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from threadpoolctl import threadpool_limits

from analysis.simulations.registry import QUESTIONS
from analysis.simulations.scenario import Floats, Row, replicate, rows
from study.errors import unknown

SLICES = 20
"""Into how many parts a scenario's replicates are cut. All scenarios go on alike, so that the rest can be estimated."""
FEWEST = 3
"""The fewest replicates of a scenario, whatever the fraction."""


@dataclass(frozen=True)
class _Part:
    """Some of a scenario's replicates: their numbers are `numbers`."""

    question: str
    scenario: int
    numbers: tuple[int, ...]
    seed: int


def select_questions(names: Sequence[str]) -> list[str]:
    """Return the questions of these names in the registry's order, or all where none is named.

    Raises:
        BadInputError: there is no such question.
    """
    for name in names:
        if name not in QUESTIONS:
            raise unknown("question", name, QUESTIONS)
    return [name for name in QUESTIONS if not names or name in names]


def audit(
    questions: Sequence[str],
    fraction: float = 1.0,
    seed: int = 0,
    processes: int = 2,
    progress: Callable[[float], None] = lambda _: None,
) -> list[Row]:
    """Draw every scenario of some questions, and return a row for each measure.

    A replicate's randomness depends on the seed, its scenario and its number alone: what is found is the same on any
    number of processes.

    Args:
        questions: keys of `registry.QUESTIONS`.
        fraction: the share of the replicates that is drawn.
        seed: of the simulations.
        processes: how many processes draw; with one it is this one.
        progress: called with the share that is done.
    """
    parts = _parts(questions, fraction, seed)
    drawn: dict[tuple[str, int], dict[int, Floats]] = defaultdict(dict)
    for done, (part, found) in enumerate(_draw_all(parts, processes), start=1):
        drawn[part.question, part.scenario].update(zip(part.numbers, found, strict=True))
        progress(done / len(parts))
    return [
        row
        for name in questions
        for number, scenario in enumerate(QUESTIONS[name])
        for row in rows(name, scenario, [found for _, found in sorted(drawn[name, number].items())])
    ]


def _parts(questions: Sequence[str], fraction: float, seed: int) -> list[_Part]:
    """Return the parts of all scenarios, the first ones first."""
    slices = []
    for name in questions:
        for number, scenario in enumerate(QUESTIONS[name]):
            count = max(FEWEST, round(fraction * scenario.replicates))
            cut = np.array_split(np.arange(count), min(SLICES, count))
            slices.append([_Part(name, number, tuple(numbers.tolist()), seed) for numbers in cut])
    return [of_scenario[turn] for turn in range(SLICES) for of_scenario in slices if turn < len(of_scenario)]


def _draw_all(parts: Sequence[_Part], processes: int) -> Iterator[tuple[_Part, list[Floats]]]:
    """Yield each part with its replicates, as they are done."""
    if processes == 1:
        with threadpool_limits(1):
            yield from ((part, _draw(part)) for part in parts)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=threadpool_limits, initargs=(1,)) as pool:
        futures: dict[Future[list[Floats]], _Part] = {pool.submit(_draw, part): part for part in parts}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _draw(part: _Part) -> list[Floats]:
    """Draw the replicates of a part."""
    scenario = QUESTIONS[part.question][part.scenario]
    stream = crc32(f"{part.question}: {scenario.name}".encode())
    return [replicate(scenario, np.random.default_rng([part.seed, stream, number])) for number in part.numbers]
