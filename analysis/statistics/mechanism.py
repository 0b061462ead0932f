"""How margins and gradients go on through training, beside what the theory predicts of them (section 5 and A.2).

A curve is what was recorded of one network at each measured epoch: its gamma/sigma, and the margins and gradient norms
of its S_out samples, which both arms of a pair share.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.cells import CELL_SETTINGS, PAIRING_KEYS
from analysis.load import KEY
from study.record.results import Results
from study.theory import margin_after, predicted_amplification, time_to_memorize

CURVE = "curve"
"""The column that `with_curves` adds."""
PULLS = ["share_out", "size_out", "size_in", "push_out"]
"""The columns of `gamma_gradients` that an effect may be made of."""
LARGEST_MARGIN = 50.0
"""The largest margin up to which a time is taken: e to its power is still far from the end of float64."""


@dataclass(frozen=True)
class Curve:
    """What was recorded of one network.

    Attributes:
        epochs: the measured epochs [E], from 0.
        ratios: gamma/sigma at each, the mean over layers; NaN without batch norm.
        margins: of its S_out samples [E, S].
        norms: their gradient norms [E, S].
    """

    epochs: NDArray[np.int64]
    ratios: NDArray[np.float64]
    margins: NDArray[np.float64]
    norms: NDArray[np.float64]

    @property
    def margin(self) -> NDArray[np.float64]:
        """The mean margin of S_out at each measured epoch."""
        means: NDArray[np.float64] = self.margins.mean(axis=1)
        return means


def with_curves(sweep: str, members: pd.DataFrame, results: Results) -> pd.DataFrame:
    """Return the members with their curves; None for one of which none was recorded, or that has no S_out."""
    trials = set(members["trial"])
    columns = [*KEY, "epoch", "sample", "group", "margin", "grad_norm"]
    rows = results.read(sweep, "margins", columns, trials=trials).to_pandas()
    layers = results.read(sweep, "layers", [*KEY, "epoch", "ratio_mean"], trials=trials).to_pandas()
    ratios = layers.groupby([*KEY, "epoch"])["ratio_mean"].mean()
    curves = {}
    for key, own in rows[rows["group"] != "clean"].groupby(KEY):
        margins, norms = (own.pivot(index="epoch", columns="sample", values=name) for name in ("margin", "grad_norm"))
        index = pd.MultiIndex.from_tuples([(*key, epoch) for epoch in margins.index])
        curves[key] = Curve(
            margins.index.to_numpy(), ratios.reindex(index).to_numpy(float), margins.to_numpy(), norms.to_numpy()
        )
    found = [curves.get(key) for key in members[KEY].itertuples(index=False, name=None)]
    return members.assign(**{CURVE: pd.Series(found, index=members.index, dtype=object)})


def paired_curves(sweep: str, members: pd.DataFrame, results: Results) -> pd.DataFrame:
    """Return a row for each pair of members with batch norm and without that both have a curve.

    Returns:
        The settings but the norm, the seed and the model, `gamma_over_sigma_arm`, `curve_arm` and `curve_ref`.
    """
    keys = [name for name in CELL_SETTINGS if name != "norm"] + PAIRING_KEYS
    measured = with_curves(sweep, members, results)
    measured = measured[measured[CURVE].notna()]
    arm, reference = (measured[measured["norm"] == norm] for norm in ("batch", "none"))
    own = arm[[*keys, "gamma_over_sigma", CURVE]].rename(columns={"gamma_over_sigma": "gamma_over_sigma_arm"})
    return own.merge(reference[[*keys, CURVE]], on=keys, suffixes=("_arm", "_ref"))


def by_epoch(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each pair and epoch at which both of its networks were measured, and those of all its cell.

    Where training ends at convergence, some networks have later epochs than others. Those would be told of some seeds
    alone, which are not chosen at random.

    Args:
        pairs: with `curve_arm` and `curve_ref`.

    Returns:
        The pairs with `measured_epoch`, with `margins` and `norms` of both sides at that epoch, and with
        `gamma_over_sigma_arm` as it was then.
    """
    rows = []
    for _, pair in pairs.iterrows():
        arm, reference = pair[f"{CURVE}_arm"], pair[f"{CURVE}_ref"]
        if arm is None or reference is None:
            continue
        shared, at_arm, at_reference = np.intersect1d(arm.epochs, reference.epochs, return_indices=True)
        for epoch, i, j in zip(shared, at_arm, at_reference, strict=True):
            of_epoch = {"margins_arm": arm.margins[i], "margins_ref": reference.margins[j]}
            of_epoch |= {"norms_arm": arm.norms[i], "norms_ref": reference.norms[j]}
            rows.append({**pair, **of_epoch, "gamma_over_sigma_arm": arm.ratios[i], "measured_epoch": int(epoch)})
    columns = [*pairs.columns, "measured_epoch", "margins_arm", "margins_ref", "norms_arm", "norms_ref"]
    found = pd.DataFrame(rows, columns=list(dict.fromkeys(columns)))
    cell = [name for name in CELL_SETTINGS if name in found]
    measured = found.groupby([*cell, "measured_epoch"])["seed"].transform("size")
    return found[measured == measured.groupby([found[name] for name in cell]).transform("max")]


def time_to_reach(curve: Curve, margin: float, since: int = 0) -> float:
    """Return how many epochs the mean margin of S_out takes to a margin, along straight lines; NaN if it gets nowhere.

    Args:
        curve: what was recorded.
        margin: the margin.
        since: the place in the curve from which time counts.
    """
    means, epochs = curve.margin[since:], curve.epochs[since:]
    there = np.flatnonzero(means >= margin)
    if not len(there):
        return float("nan")
    first = int(there[0])
    if first == 0:
        return 0.0
    rise = (margin - means[first - 1]) / (means[first] - means[first - 1])
    return float(epochs[first - 1] + rise * (epochs[first] - epochs[first - 1]) - epochs[0])


def log_speedup(arm: Curve, reference: Curve) -> float:
    """Return the logarithm of how many times as long the reference takes to memorize as the arm.

    A network has memorized S_out where its mean margin is 0: the assigned label is then as likely as all others. For
    one that doesn't get there its last epoch counts, by which the ratio is closer to 1 than in truth.

    Returns:
        NaN where neither gets there, or one is there before training.
    """
    times = [time_to_reach(curve, 0.0) for curve in (arm, reference)]
    if np.isnan(times).all() or 0.0 in times:
        return float("nan")
    ends = (arm.epochs[-1], reference.epochs[-1])
    own, other = (end if np.isnan(time) else time for time, end in zip(times, ends, strict=True))
    return float(np.log(other / own))


def log_rate_ratio(arm: Curve, reference: Curve) -> float:
    """Return the logarithm of the arm's rate c in Eq. 28 over the reference's, which (gamma/sigma)^2 predicts (Eq. 29).

    In truth the margins of flipped samples fall before they rise, while the others' labels are learned. Eq. 28 knows no
    such fall, but holds between any two margins. So each network's rate is from its lowest mean margin to the largest
    that both come to afterwards.

    Returns:
        NaN where one of the two doesn't come above the other's lowest margin.
    """
    target = min(highest_after(arm), highest_after(reference))
    rates = rate(arm, target), rate(reference, target)
    return float(np.log(rates[0] / rates[1]))


def highest_after(curve: Curve) -> float:
    """Return the largest mean margin from the lowest on, but no more than `LARGEST_MARGIN`."""
    return float(min(curve.margin[curve.margin.argmin() :].max(), LARGEST_MARGIN))


def rate(curve: Curve, target: float) -> float:
    """Return the rate c, per epoch, by which Eq. 28 goes from a network's lowest mean margin to a target; or NaN."""
    lowest = int(curve.margin.argmin())
    start = float(curve.margin[lowest])
    if not target > start:
        return float("nan")
    return time_to_memorize(1.0, start, target) / time_to_reach(curve, target, lowest)


def predicted_margins(arm: Curve, reference: Curve) -> NDArray[np.float64]:
    """Return the arm's mean margins as Eq. 27 has them from its lowest on, at a rate that its gamma/sigma predicts.

    The rate is (gamma/sigma)^2, as it is then, times the reference's own from its lowest margin to its highest.

    Returns:
        float64 [E], at the arm's epochs; NaN before the lowest margin, and where the reference has no rate.
    """
    lowest = int(arm.margin.argmin())
    rate_of_arm = predicted_amplification(float(arm.ratios[lowest])) * rate(reference, highest_after(reference))
    margins = np.full(len(arm.epochs), np.nan)
    if np.isfinite(rate_of_arm):
        times = arm.epochs[lowest:] - arm.epochs[lowest]
        margins[lowest:] = [margin_after(rate_of_arm, float(arm.margin[lowest]), float(time)) for time in times]
    return margins


def mean_pulls(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the means over measured epochs of training, by member and layer, of rows of `gamma_gradients`.

    Epoch 0 is left out: nothing is known then, and so nothing is an outlier.
    """
    means: pd.DataFrame = rows[rows["epoch"] > 0].groupby([*KEY, "depth"])[PULLS].mean().reset_index()
    return means
