from types import SimpleNamespace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures import mechanism
from tests.analysis.figures.test_memorization import colored
from tests.analysis.statistics.test_mechanism import curve


def test_margins_are_drawn_at_epochs_that_all_seeds_were_measured_at():
    # The first seed's batch norm has converged before the second's, and is at its lowest before it as well.
    arms = [curve(-2, -3, -1, 2), curve(-2, -3, -4, 0, 3)]
    references = [curve(-2, -5, -4, -3, -2), curve(-2, -5, -4, -3, -2)]
    axes = Figure().add_subplot()
    mechanism._margin_lines(
        SimpleNamespace(axes=axes, name="LeNet"), pd.DataFrame({"curve_arm": arms, "curve_ref": references})
    )
    (batch,), (none,) = (colored(axes, norm) for norm in ("batch", "none"))
    assert batch.get_xdata().tolist() == [0, 2, 4, 8]
    assert batch.get_ydata().tolist() == [-2, -3, -2.5, 1]
    assert none.get_xdata().tolist() == [0, 2, 4, 8, 16]
    (predicted,) = (one for one in axes.lines if one.get_marker() == "o" and one is not batch)
    # Of the first seed there is a prediction from epoch 2 on, of the second from 4 on.
    assert np.isfinite(predicted.get_ydata()).tolist() == [False, False, True, True]
