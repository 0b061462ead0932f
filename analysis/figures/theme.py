"""The look of figures: one colour, marker and line for each arm, told apart in grey and by the colour-blind."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager

# Okabe and Ito's palette.
COLORS = {
    "batch": "#0072B2",
    "none": "#D55E00",
    "group": "#009E73",
    "instance": "#CC79A7",
    "layer": "#E69F00",
    "rms": "#56B4E9",
    "fixup": "#333333",
}
MARKERS = {"batch": "o", "none": "s", "group": "^", "instance": "D", "layer": "v", "rms": "P", "fixup": "p"}
DASHES: dict[str, Any] = {
    "batch": "",
    "none": (4, 2),
    "group": (1, 1),
    "instance": (3, 1, 1, 1),
    "layer": (5, 1, 1, 1),
    "rms": (3, 1, 1, 1, 1, 1),
    "fixup": (2, 2),
}
HATCHES = {
    "batch": "",
    "none": "////",
    "group": "....",
    "instance": "xxxx",
    "layer": "----",
    "rms": "++++",
    "fixup": "**",
}
"""The hatching of an arm's bars, which tells them apart in grey."""
RESULT_LOOKS: dict[str, dict[str, Any]] = {
    "mem_acc": {"color": "#882255", "marker": "X", "dashes": (None, None)},
    "clean_acc": {"color": "#117733", "marker": "<", "dashes": (4, 2)},
    "test_acc": {"color": "#999933", "marker": ">", "dashes": (1, 1)},
}
"""The looks of results that share a panel: Tol's muted colours, none of which is an arm's."""

REGULARIZER_MARKERS = {"log": "^", "hinge": "D"}
"""The markers of the regularizer's kinds."""
REGULARIZER_LOOKS: dict[str, dict[str, Any]] = {
    "log": {"facecolor": "#E69F00", "hatch": "\\\\\\\\", "edgecolor": "white", "linewidth": 0},
    "hinge": {"facecolor": "#56B4E9", "hatch": "oo", "edgecolor": "white", "linewidth": 0},
}
"""The looks of the bars of the regularizer's kinds."""
SEARCH_LOOKS: dict[str, tuple[str, Any]] = {"TPE": ("#0072B2", (None, None)), "random": ("#D55E00", (4, 2))}
"""The colours and dashes of the searches."""
LEAKAGE_COLORMAP = "cividis"
"""The colour map of membership AUC: as light in grey as it is in colour, and the same to the colour-blind."""


WIDE_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei"),
    *(
        "WenQuanYi Micro Hei",
        "Droid Sans Fallback",
        "PingFang SC",
        "Hiragino Sans",
        "Microsoft YaHei",
        "Arial Unicode MS",
    ),
)
"""Fonts with the letters that Matplotlib's own lacks, as Chinese, Japanese and Korean ones."""


def font_families() -> list[str]:
    """Return the fonts of figures: Matplotlib's own, and for letters that it lacks one that is installed."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["sans-serif", *[name for name in WIDE_FONTS if name in installed][:1]]


@contextmanager
def theme() -> Iterator[None]:
    """Draw with the project's Matplotlib settings, and put the previous ones back afterwards."""
    with mpl.rc_context(
        {
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#DDDDDD",
            "grid.linewidth": 0.6,
            "font.family": font_families(),
            "font.size": 9,
            "axes.titlesize": 9,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "legend.fontsize": 8,
            "figure.constrained_layout.use": True,
            "savefig.dpi": 300,
            "pdf.fonttype": 42,
            # An SVG of its own looks the same where the font is missing; one within a page has its text as text.
            "svg.fonttype": "path",
            "svg.hashsalt": "normleak",
        }
    ):
        yield
