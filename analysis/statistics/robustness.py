"""Robustness: accuracy against how strongly images are perturbed, and whether the attacks themselves are sound.

An attack that is weak makes any network look robust. So what must hold of a sound one is judged for each arm, as
Carlini et al. (2019) advise: a stronger attack never leaves more images right than a weaker one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.cells import varying_settings
from analysis.load import KEY, Loaded
from analysis.statistics.means import mean_over_seeds
from study.errors import BadInputError
from study.record.results import Results

PERTURBATION = [
    *("suite", "perturbation", "ball", "space", "epsilon", "steps", "restarts", "loss", "clip_low", "clip_high"),
    *("severity", "split", "source"),
]
"""The columns that tell perturbations apart; `ball` is the norm that bounds an attack, for `norm` is the network's."""
CHECKS, CONTROLS = "checks", "controls"
"""The suites of the sanity checks and of the controls of batch norm."""
OF_PAPER = {"fgsm": 0.1, "bim": 0.1}
"""The epsilon of the 2019 paper's attacks on images of MNIST that its tables show."""
ATTACKED = tuple(f"{attack}_{result}" for attack in OF_PAPER for result in ("acc", "loss"))
"""The columns that `with_attacks` adds."""
IMAGES_TOLERATED = 2 / 256
"""By which share of the images a stronger attack may do worse than a weaker one: two of the 256 that are looked at."""
LOSS_TOLERATED = 0.05
"""By how much climbing the margin may do better than climbing the cross-entropy, which no theorem orders."""
PASS, FAIL, NOT_MEASURED = "pass", "FAIL", "not measured"


def robustness_rows(loaded: Loaded, results: Results) -> pd.DataFrame:
    """Return the rows of `robustness` with the settings, seed and model of each member.

    Raises:
        BadInputError: there are none.
    """
    members = loaded.members
    trials = set(members["trial"])
    rows = results.read(loaded.sweep, "robustness", trials=trials).to_pandas().rename(columns={"norm": "ball"})
    rows = rows.astype(dict.fromkeys(("severity", "steps", "restarts"), float))
    words = ["suite", "perturbation", "ball", "space", "loss", "split", "source"]
    rows[words] = rows[words].astype(object).fillna("")
    own = members.drop(columns=[name for name in members if name in rows and name not in KEY])
    joined = own.merge(rows, on=KEY, how="inner")
    if joined.empty:
        raise BadInputError(
            f"{loaded.sweep}: no robustness was measured; run it with --set robustness=pixel, in a folder of its own."
        )
    return joined


def with_attacks(sweep: str, members: pd.DataFrame, results: Results) -> pd.DataFrame:
    """Return the members with `ATTACKED`, their accuracies and losses under the paper's FGSM and BIM."""
    columns = [*KEY, "suite", "perturbation", "epsilon", "split", "acc", "loss_mean"]
    rows = results.read(sweep, "robustness", columns, trials=set(members["trial"])).to_pandas()
    rows = rows[rows["split"] == "test"]
    for attack, epsilon in OF_PAPER.items():
        of_attack = (rows["suite"] == "paper2019") & (rows["perturbation"] == attack) & (rows["epsilon"] == epsilon)
        names = {"acc": f"{attack}_acc", "loss_mean": f"{attack}_loss"}
        members = members.merge(rows.loc[of_attack, [*KEY, *names]].rename(columns=names), on=KEY, how="left")
    return members


def strengths(rows: pd.DataFrame, members: pd.DataFrame) -> pd.DataFrame:
    """Return what is left of the accuracy at each strength of each perturbation, in each cell.

    Args:
        rows: what `robustness_rows` gives.
        members: all members of the sweep, also those without results.

    Returns:
        A row for each perturbation and cell: the settings that vary, `PERTURBATION`, `clean_acc`; `acc` and `kept`, the
        share of the clean accuracy that is left, each with its 95% interval (`_low`, `_high`) over `n` seeds; `images`,
        `excluded` members, `flat`, the share of images without a usable gradient, and `moved`, the share of members in
        which a value was moved farther than epsilon.
    """
    settings = _settings(members)
    lost = members[members["status"] != "ok"].groupby(settings).size()
    excluded = {key if len(settings) > 1 else (key,): int(count) for key, count in lost.items()}
    measured = rows[rows["suite"] != CONTROLS]
    found = []
    # Perturbations in their own order, and of each the cells in theirs.
    order = measured.groupby(PERTURBATION, sort=False, dropna=False).ngroup()
    for (_, *key), part in measured.groupby([order, *PERTURBATION, *settings], dropna=False):
        cell = tuple(key[len(PERTURBATION) :])
        kept = part.assign(kept=part["acc"] / part["clean_acc"].where(part["clean_acc"] > 0))
        acc, share = mean_over_seeds(part, "acc", "n"), mean_over_seeds(kept, "kept")
        found.append(
            {
                **dict(zip([*PERTURBATION, *settings], key, strict=True)),
                **{"clean_acc": part["clean_acc"].mean(), "acc": acc.mean, "acc_low": acc.low, "acc_high": acc.high},
                **{"kept": share.mean, "kept_low": share.low, "kept_high": share.high},
                **{"n": acc.n, "images": part["n"].max(), "loss_mean": part["loss_mean"].mean()},
                "excluded": excluded.get(cell, 0) + int(part["acc"].isna().sum()),
                **{"flat": part["flat"].mean(), "moved": float((part["moved"].fillna(0) > 0).mean())},
            }
        )
    return pd.DataFrame(found, columns=_columns(settings))


def _settings(members: pd.DataFrame) -> list[str]:
    """Return the settings that tell cells apart, the norm among them even where there is one."""
    varying = varying_settings(members)
    return varying if "norm" in varying else [*varying, "norm"]


def _columns(settings: Sequence[str]) -> list[str]:
    """Return the columns of `strengths`."""
    numbers = ["clean_acc", "acc", "acc_low", "acc_high", "kept", "kept_low", "kept_high", "n", "images", "loss_mean"]
    return [*settings, *PERTURBATION, *numbers, "excluded", "flat", "moved"]


def controls(rows: pd.DataFrame, members: pd.DataFrame) -> pd.DataFrame:
    """Return the test accuracy of batch norm with other statistics than its own, in each cell; no rows without it.

    Returns:
        A row for each control and cell: the settings that vary, `statistics`, `clean_acc` with the network's own;
        `difference` from it, with its 95% interval `low` to `high` over `n` seeds.
    """
    settings = _settings(members)
    found = []
    measured = rows[rows["suite"] == CONTROLS]
    for key, part in measured.groupby(["perturbation", *settings], sort=False):
        change = mean_over_seeds(part.assign(change=part["acc"] - part["clean_acc"]), "change")
        found.append(
            {
                **dict(zip(["statistics", *settings], key, strict=True)),
                **{"clean_acc": part["clean_acc"].mean(), "acc": part["acc"].mean()},
                **{"difference": change.mean, "low": change.low, "high": change.high, "n": change.n},
            }
        )
    return pd.DataFrame(found, columns=[*settings, "statistics", "clean_acc", "acc", "difference", "low", "high", "n"])


# The sanity checks ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """What must hold of a sound attack, judged for one arm.

    Attributes:
        check: what must hold.
        verdict: `PASS`, `FAIL` or `NOT_MEASURED`.
        sentence: the accuracies that it rests on.
    """

    check: str
    verdict: str
    sentence: str


def judge(rows: pd.DataFrame, members: pd.DataFrame) -> pd.DataFrame:
    """Judge the attacks of each cell by the sanity checks, on means over its members.

    Args:
        rows: what `robustness_rows` gives.
        members: all members of the sweep.

    Returns:
        A row for each cell and check: the settings that vary, and the attributes of `Check`.
    """
    settings = _settings(members)
    attacked = rows[rows["acc"].notna()]
    found = [
        {**dict(zip(settings, key, strict=True)), **vars(check)}
        for key, part in attacked.groupby(settings, sort=True)
        for check in _checks(part)
    ]
    return pd.DataFrame(found, columns=[*settings, "check", "verdict", "sentence"])


def _checks(rows: pd.DataFrame) -> Iterator[Check]:
    """Yield every check of the attacks on one arm."""
    of_suite = _Attacks(rows[rows["suite"] == CHECKS])
    to_one = of_suite.along("epsilon", name="pgd", ball="linf", steps=20, restarts=1, loss="ce")
    yield _never_helps("a larger epsilon never helps", "epsilon", to_one)
    yield _falls_to_zero(to_one)
    usual = of_suite.usual_epsilon
    of_usual = {"name": "pgd", "ball": "linf", "epsilon": usual, "loss": "ce"}
    steps = of_suite.along("steps", **of_usual, restarts=1)
    yield _never_helps("more steps never help", "steps", steps)
    yield _never_helps("more restarts never help", "restarts", of_suite.along("restarts", **of_usual, steps=20))
    pgd = of_suite.accuracy(**of_usual, steps=20, restarts=1)
    fgsm = of_suite.accuracy(name="fgsm", ball="linf", epsilon=usual)
    noise = of_suite.accuracy(name="uniform", ball="linf", epsilon=usual)
    yield _at_most("PGD is no weaker than FGSM", ("PGD", pgd), ("FGSM", fgsm))
    yield _at_most("FGSM is no weaker than noise of the same norm", ("FGSM", fgsm), ("uniform noise", noise))
    transfer = of_suite.accuracy(name="transfer", ball="linf", epsilon=usual)
    yield _at_most("white-box is no weaker than transfer", ("PGD", pgd), ("a linear network's images", transfer))
    l2 = of_suite.accuracy(name="pgd", ball="l2", loss="ce")
    yield _at_most("l2 is no weaker than linf, whose ball it holds", ("PGD l2", l2), ("PGD linf", pgd))
    margin = of_suite.accuracy(**{**of_usual, "loss": "margin"}, steps=20, restarts=1)
    yield _at_most(
        "climbing the margin is not much stronger", ("cross-entropy", pgd), ("margin", margin), LOSS_TOLERATED
    )
    yield from _balls_of_paper(rows[(rows["suite"] == "paper2019") & (rows["split"] == "test")])


def _balls_of_paper(rows: pd.DataFrame) -> Iterator[Check]:
    """Yield the check on the paper's two balls, with and without its clip, where it attacked in both."""
    for low, part in rows.groupby("clip_low", sort=False, dropna=False):
        of_clip = _Attacks(part)
        l2, linf = (of_clip.accuracy(name="pgd", ball=ball) for ball in ("l2", "linf"))
        if l2 is not None and linf is not None:
            words = "unclipped" if pd.isna(low) else f"clipped to [{float(str(low)):g}, {part['clip_high'].iloc[0]:g}]"
            yield _at_most(f"the paper's l2 is no weaker than its linf, {words}", ("l2", l2), ("linf", linf))


class _Attacks:
    """The mean accuracies of one arm under its attacks."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self._rows = rows
        transfer = rows.loc[rows["perturbation"] == "transfer", "epsilon"]
        self.usual_epsilon = float(transfer.iloc[0]) if len(transfer) else np.nan
        """The radius at which most checks are made."""

    def along(self, column: str, **levels: object) -> list[tuple[float, float]]:
        """Return the accuracy by the levels of a column, in ascending order."""
        means = self._matching(levels).groupby(column)["acc"].mean()
        return [(float(str(level)), float(acc)) for level, acc in means.items()]

    def accuracy(self, **levels: object) -> float | None:
        """Return the accuracy under one attack; None where it was not measured."""
        matching = self._matching(levels)["acc"]
        return float(matching.mean()) if len(matching) else None

    def _matching(self, levels: dict[str, object]) -> pd.DataFrame:
        matching = pd.Series(True, index=self._rows.index)
        for name, level in levels.items():
            column = self._rows["perturbation" if name == "name" else name]
            matching &= np.isclose(column, level, rtol=1e-9) if isinstance(level, float) else column == level
        return self._rows[matching]


def _never_helps(check: str, column: str, points: Sequence[tuple[float, float]]) -> Check:
    """Judge that the accuracy never rises along a column by more than is tolerated."""
    if len(points) < 2:
        return Check(check, NOT_MEASURED, "robustness=pixel measures it")
    for at, (level, acc) in enumerate(points[1:], 1):
        before, least = min(points[:at], key=lambda point: point[1])
        if acc > least + IMAGES_TOLERATED:
            return Check(check, FAIL, f"accuracy {acc:.3f} at {column} {level:g}, but {least:.3f} at {before:g}")
    (first, start), (last, end) = points[0], points[-1]
    return Check(check, PASS, f"accuracy {start:.3f} at {column} {first:g}, {end:.3f} at {last:g}")


def _falls_to_zero(points: Sequence[tuple[float, float]]) -> Check:
    """Judge that nothing is left of the accuracy where an attack may change images at will."""
    check = "accuracy falls to 0 as epsilon grows to 1"
    if not points or points[-1][0] < 1:
        return Check(check, NOT_MEASURED, "robustness=pixel measures it")
    acc = points[-1][1]
    return Check(check, FAIL if acc > IMAGES_TOLERATED else PASS, f"accuracy {acc:.3f} at epsilon 1")


def _at_most(
    check: str,
    stronger: tuple[str, float | None],
    weaker: tuple[str, float | None],
    tolerated: float = IMAGES_TOLERATED,
) -> Check:
    """Judge that the accuracy under an attack is at most that under a weaker one, by and large."""
    (one, low), (other, high) = stronger, weaker
    if low is None or high is None:
        return Check(check, NOT_MEASURED, "robustness=pixel measures it")
    sentence = f"accuracy {low:.3f} under {one}, {high:.3f} under {other}"
    return Check(check, FAIL if low > high + tolerated else PASS, sentence)


def failures(verdicts: pd.DataFrame) -> list[str]:
    """Return a sentence for each check that fails, of which arm."""
    settings = [name for name in verdicts.columns if name not in ("check", "verdict", "sentence")]
    return [
        f"WARNING, {', '.join(f'{name}={row[name]}' for name in settings)}: it does not hold that {row['check']}: "
        f"{row['sentence']}."
        for row in verdicts.to_dict("records")
        if row["verdict"] == FAIL
    ]
