"""How figures look: one colour, marker and line per arm, told apart in grey and by the colour-blind."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl

# Okabe and Ito's palette.
COLORS = {
    "batch": "#0072B2",
    "none": "#D55E00",
    "group": "#009E73",
    "instance": "#CC79A7",
    "layer": "#E69F00",
    "rms": "#56B4E9",
}
MARKERS = {"batch": "o", "none": "s", "group": "^", "instance": "D", "layer": "v", "rms": "P"}
DASHES: dict[str, Any] = {
    "batch": "",
    "none": (4, 2),
    "group": (1, 1),
    "instance": (3, 1, 1, 1),
    "layer": (5, 1, 1, 1),
    "rms": (3, 1, 1, 1, 1, 1),
}
NAMES = {
    "batch": "batch norm",
    "none": "no norm",
    "group": "group norm",
    "instance": "instance norm",
    "layer": "layer norm",
    "rms": "RMS norm",
}

HATCHES = {"batch": "", "none": "////", "group": "....", "instance": "xxxx", "layer": "----", "rms": "++++"}
"""How the bars of an arm are told apart in grey."""
MEASURES = {
    "test_acc": "test accuracy",
    "mem_acc": "memorization accuracy",
    "clean_acc": "clean accuracy",
    "mia_auc": "membership AUC",
    "mem_loss": "loss, corrupted",
    "clean_loss": "loss, clean",
}
"""What the axes call a result."""
MEASURE_LOOKS: dict[str, dict[str, Any]] = {
    "mem_acc": {"color": "#882255", "marker": "X", "dashes": (None, None)},
    "clean_acc": {"color": "#117733", "marker": "<", "dashes": (4, 2)},
    "test_acc": {"color": "#999933", "marker": ">", "dashes": (1, 1)},
}
"""Where results share a panel: Tol's muted colours, none of which is an arm's."""

KINDS = {"log": "^", "hinge": "D"}
"""The markers of the regularizer's kinds."""
KIND_LOOKS: dict[str, dict[str, Any]] = {
    "log": {"facecolor": "#E69F00", "hatch": "\\\\\\\\", "edgecolor": "white", "linewidth": 0},
    "hinge": {"facecolor": "#56B4E9", "hatch": "oo", "edgecolor": "white", "linewidth": 0},
}
"""How their bars look."""
SEARCHES: dict[str, tuple[str, Any]] = {"TPE": ("#0072B2", (None, None)), "random": ("#D55E00", (4, 2))}
"""The colours and dashes of the searches."""
LEAKAGE = "cividis"
"""The colour map of membership AUC: as light in grey as it is in colour, and the same to the colour-blind."""


@contextmanager
def theme() -> Iterator[None]:
    """Matplotlib's settings for the project's figures, put back afterwards."""
    with mpl.rc_context(
        {
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#DDDDDD",
            "grid.linewidth": 0.6,
            "font.size": 10,
            "axes.titlesize": 10,
            "figure.constrained_layout.use": True,
            "savefig.dpi": 160,
            "pdf.fonttype": 42,
        }
    ):
        yield
