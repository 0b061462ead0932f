"""All sweeps by name. A new one is a file in a paper's folder, with a `SWEEP`, and a line here."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from study import imports
from study.errors import BadInputError, unknown
from study.settings import SETTINGS
from sweeps.memorization import (
    ablation,
    batch_size,
    complex_data,
    gamma_sigma,
    influence,
    label_noise,
    learning_rate,
    membership,
    normalization,
    ood,
    optimizer,
    quickstart,
    regularizer,
    transformer,
)
from sweeps.robustness import (
    clusters,
    depth_batch_size,
    input_dimension,
    loss_scaling,
    panel,
    pretrained,
    spheres,
    transfer,
    vgg_cifar,
    vgg_svhn,
    wide_resnet,
)
from sweeps.sweep import Sweep

SWEEPS: dict[str, Sweep] = {
    module.SWEEP.name: module.SWEEP
    for module in (
        quickstart,
        label_noise,
        ood,
        influence,
        membership,
        gamma_sigma,
        regularizer,
        learning_rate,
        batch_size,
        optimizer,
        normalization,
        transformer,
        complex_data,
        ablation,
        input_dimension,
        spheres,
        clusters,
        loss_scaling,
        depth_batch_size,
        vgg_svhn,
        vgg_cifar,
        wide_resnet,
        pretrained,
        transfer,
        panel,
    )
}

PAPERS = {
    2026: "Batch Normalization Amplifies Memorization and Privacy Risks (Doan, Gu and Alouani)",
    2019: "Batch Normalization is a Cause of Adversarial Vulnerability (Galloway et al.)",
}
"""The papers whose figures and tables the sweeps feed, by the year by which they name them."""
FORM = "MODULE:SWEEP"


def sweep(name: str) -> Sweep:
    """Return the sweep of that name, or import the user's own, which is named `module:SWEEP`.

    Raises:
        BadInputError: there is none, and the message has the nearest; or what is imported is no sweep, or has the name
            of another.
    """
    if imports.parse(name):
        return _custom(name)
    if name not in SWEEPS:
        raise unknown("sweep", name, (*SWEEPS, FORM))
    return SWEEPS[name]


def papers_of(name: str) -> tuple[str, ...]:
    """Return the years of the papers that a sweep feeds, the earliest first; none of one that is not built in."""
    found = SWEEPS[name].feeds.partition(":")[0] if name in SWEEPS else ""
    return tuple(re.findall(r"\d{4}", found))


def joins_papers(name: str) -> bool:
    """Return whether a sweep joins several papers."""
    return len(papers_of(name)) > 1


def folder(name: str) -> str:
    """Return the name of a sweep's folder of results: that of the user's own sweep is the name that it has."""
    return _custom(name).name if imports.parse(name) else name


def _custom(name: str) -> Sweep:
    """Import the user's own sweep, and refuse one that can't have a folder of its own."""
    found = imports.load(name, "sweep", lambda value: isinstance(value, Sweep))
    if not isinstance(found, Sweep):
        raise BadInputError(f"{name} must be a sweeps.sweep.Sweep, not {type(found).__name__}.")
    if not re.fullmatch(r"(?!tune_)[a-z]\w*", str(found.name), re.ASCII):
        raise BadInputError(
            f"{name} has the name {found.name!r}, but its results go to a folder of that name: take small letters, "
            "digits and underscores, and not tune_ at the beginning."
        )
    if found.name in SWEEPS:
        raise BadInputError(f"{name} has the name of the built-in sweep {found.name}; take another.")
    if not _are_grids(found.quick) or not _are_grids(found.paper):
        raise BadInputError(
            f"{name} must have tuples of grids, as sweeps.sweep.product makes them, as quick and paper."
        )
    if found.factor not in SETTINGS:
        raise unknown(f"factor of {name}", str(found.factor), SETTINGS)
    return found


def _are_grids(grids: Any) -> bool:
    """Return whether these are grids, each with at least one level an axis; there may be none at a scale."""
    return isinstance(grids, Sequence) and all(
        isinstance(grid, Mapping) and all(isinstance(levels, tuple) and levels for levels in grid.values())
        for grid in grids
    )
