"""Describe a launch: which trials to run for which sweep, where and how. Needs no Ray."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from study.record.results import Results
from study.trial import Trial
from sweeps.bundles import Kinds

Callbacks = Callable[[str], Sequence[Any]]
"""Returns the Tune callbacks for the sweep of that name."""


@dataclass(frozen=True)
class Cluster:
    """Where the workers are.

    Attributes:
        address: `local` to start Ray on this machine, `auto` or an address to join a running cluster.
        workers: how many workers to use, None for one a core or GPU. A running cluster that grows by itself may have
            fewer at first, or none.
        device: `cpu`, `cuda`, or `auto` for GPUs where there are any.
    """

    address: str = "local"
    workers: int | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Launch:
    """Which trials to run for a sweep, where and how: what `run`, `retry` and `tune` have in common.

    Attributes:
        sweep: the sweep under which trials are recorded.
        results: the results folder or store.
        data_dir: where torchvision's datasets lie: an absolute path that is the same on every node, or a URI that each
            node fetches from.
        trials: the trials to run.
        planned: all trials of the plan that these belong to; these alone by default. Which trials train side by side
            depends on the plan and not on what of it is missing, so a sweep that was stopped ends with the numbers of
            one that was not.
        cluster: where the workers are.
        backend: how members train side by side, or `auto`.
        time_limit: seconds that a try of a trial may take. A bundle may take the sum of its trials'.
        timed: how fast kinds of trials train on such workers, which are then not asked.
        callbacks: returns Tune's callbacks for a sweep; at the end they are told whether it was `interrupted`.
        on_packing: called with a trial of each kind of which a worker was asked, and with how these train in words.
        compacts: whether records are compacted as the run goes on, which only who holds the sweep may do.
    """

    sweep: str
    results: Results
    data_dir: str
    trials: tuple[Trial, ...] = ()
    planned: tuple[Trial, ...] = ()
    cluster: Cluster = Cluster()
    backend: str = "auto"
    time_limit: float | None = None
    timed: Kinds = field(default_factory=dict)
    callbacks: Callbacks = lambda _: ()
    on_packing: Callable[[Trial, str], None] = lambda *_: None
    compacts: bool = True
