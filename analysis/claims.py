"""The ledger: every empirical claim of the paper, what would decide it, and what the records say.

A claim is about whatever dataset and networks the records have, and these stand beside its verdict: what is held on the
digits is held on the digits. So the filter of a claim names its corruption, its k or its regularizer, and never a
dataset or a network.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis import hypotheses
from analysis.cells import SETTINGS, STREAMS, level, silenced, varying
from analysis.compare import holm
from analysis.hypotheses import Effects, Finding
from analysis.load import KEY, Loaded, load
from study.errors import BadInputError, unknown
from study.record import FIT, Results
from study.theory import predicted_amplification
from study.trial import FEWEST_MODELS, Trial
from sweeps.registry import SWEEPS
from sweeps.sweep import Scale

Effect = Callable[[pd.DataFrame], pd.Series]
"""The effect in each row of a frame of pairs, whose results end in `_arm` and `_ref`, or of members of one arm."""
Test = Callable[["Claim", Effects], Finding]
Levels = Mapping[str, Any]
"""Levels by setting; a tuple stands for any of its levels."""

RESULTS = [
    *(name for name, _ in FIT),
    *("mia_auc", "mia_tpr_at_1e3fpr", "gamma_over_sigma", "grad_norm_out", "grad_norm_in", "ratio_mean"),
]
"""The columns that an effect may be made of."""
ATTACK = "lira_online"
VERDICTS = ("held", "not held", "undecided", "not run")
BATCH: Levels = {"norm": "batch"}
NONE: Levels = {"norm": "none"}


def difference(column: str) -> Effect:
    """The arm's value less the reference's."""
    return lambda pairs: pairs[f"{column}_arm"] - pairs[f"{column}_ref"]


def ratio(column: str) -> Effect:
    """The logarithm of the arm's value over the reference's."""
    return lambda pairs: _log(pairs[f"{column}_arm"]) - _log(pairs[f"{column}_ref"])


def value(column: str) -> Effect:
    """The value of the one arm that there is."""
    return lambda members: members[column]


def _log(values: pd.Series) -> pd.Series:
    with np.errstate(divide="ignore"):
        logarithms: pd.Series = values.astype(float).map(np.log)
    return logarithms


def _layer_ratio(members: pd.DataFrame) -> pd.Series:
    return _log(members["ratio_mean"])


def _within_arm(members: pd.DataFrame) -> pd.Series:
    return _log(members["grad_norm_out"]) - _log(members["grad_norm_in"])


def _contrast(pairs: pd.DataFrame) -> pd.Series:
    return ratio("grad_norm_out")(pairs) - ratio("grad_norm_in")(pairs)


def _squared(pairs: pd.DataFrame) -> pd.Series:
    return 2 * ratio("grad_norm_out")(pairs)


def _measured_over_predicted(pairs: pd.DataFrame) -> pd.Series:
    return _squared(pairs) - _log(pairs["gamma_over_sigma_arm"].map(predicted_amplification))


def _gap(pairs: pd.DataFrame) -> pd.Series:
    return difference("mem_acc")(pairs) - difference("test_acc")(pairs).abs()


def _spread(pairs: pd.DataFrame) -> pd.Series:
    """The logarithm of the ratio of the standard deviations over cells, of each model."""
    models = pairs.groupby(STREAMS)
    return _log(models["mia_auc_arm"].transform("std")) - _log(models["mia_auc_ref"].transform("std"))


def mean(claim: "Claim", effects: Effects) -> Finding:
    """The mean over cells is as claimed."""
    return hypotheses.above(effects, claim.alternative, claim.margin, claim.size)


def every(claim: "Claim", effects: Effects) -> Finding:
    """The mean is as claimed, and so is the sign in every cell."""
    return hypotheses.every_cell(effects, claim.alternative, claim.margin, claim.size)


def some(of: str) -> Test:
    """One level of a setting at least is as claimed."""
    return lambda claim, effects: hypotheses.some_level(effects, claim.alternative, of, claim.margin)


def trend(along: str) -> Test:
    """The effect grows or falls along a setting."""
    return lambda claim, effects: hypotheses.trend(effects, claim.alternative, along)


def most(but: str) -> Test:
    """The sign is as claimed in most cells, of which a setting is no part."""
    return lambda claim, effects: hypotheses.most_cells(effects, claim.alternative, but)


def within(factor: float) -> Test:
    """A ratio lies within a factor of 1."""
    return lambda _, effects: hypotheses.within_factor(effects, factor)


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper as a hypothesis with a test.

    Attributes:
        id: its name here.
        place: where the paper has it.
        says: the sentence, in our words.
        sweeps: whose records can decide it, the one that was made for it first.
        effect: what is measured of each pair.
        test: the hypothesis.
        where: the cells that it is about.
        arm: the settings of one side.
        reference: those of the other; None where the claim is about one arm alone.
        table: what the effect is made of: a member's results (`members`), their means over all epochs (`epochs`), the
            last of each layer (`layers`), or the attack on models trained on halves (`samples`).
        alternative: `greater` or `less`, the side that is claimed.
        margin: what the effect is to exceed, where the paper says how much at least, or where we put a number to its
            words.
        size: how large the effect is, where the paper says about how much.
        ratio: whether the effect is the logarithm of a ratio, and told as the ratio.
        paper: the paper's own number in the unit of the effect, where it gives one.
        paper_p: the p that it gives.
    """

    id: str
    place: str
    says: str
    sweeps: tuple[str, ...]
    effect: Effect
    test: Test
    where: Levels = field(default_factory=dict)
    arm: Levels = field(default_factory=lambda: BATCH)
    reference: Levels | None = field(default_factory=lambda: NONE)
    table: str = "members"
    alternative: str = "greater"
    margin: float = 0.0
    size: float | None = None
    ratio: bool = False
    paper: float | None = None
    paper_p: float | None = None

    def about(self, trial: Trial) -> bool:
        """Whether the trial is one of its cells."""
        sides = [self.arm] if self.reference is None else [self.arm, self.reference]
        return any(_allows({**self.where, **side}, trial.settings()) for side in sides)

    def command(self, results: Results) -> str:
        """What would run its cells: at the quick scale, if they are there."""
        sweep = SWEEPS[self.sweeps[0]]
        quick = any(map(self.about, sweep.plan(Scale.quick).trials))
        return f"python -m sweeps run {sweep.name}{'' if quick else ' --scale paper'} --results {results.argument}"


FLIPPED: Levels = {"corruption": "label"}
ADDED: Levels = {"corruption": "ood"}
REGULARIZED: Levels = {"norm": "batch", "regularizer": "log"}
PLAIN: Levels = {"norm": "none", "regularizer": "none"}

CLAIMS = (
    Claim(
        "fig1-above",
        "Fig. 1, section 4.1",
        "With batch norm more of the flipped labels are memorized than without, in every cell.",
        ("label_noise", "quickstart"),
        difference("mem_acc"),
        every,
        where=FLIPPED,
    ),
    Claim(
        "fig1-margin",
        "Fig. 1, section 4.1",
        "The more labels are flipped, the larger the margin in memorization.",
        ("label_noise", "quickstart"),
        difference("mem_acc"),
        trend("k"),
        where=FLIPPED,
    ),
    Claim(
        "fig2-faster",
        "Fig. 2, section 4.1",
        "At k = 5% flipped labels' loss falls faster with batch norm: in every cell its mean over epochs is lower.",
        ("label_noise",),
        difference("mem_loss"),
        every,
        where={**FLIPPED, "k": 0.05},
        table="epochs",
        alternative="less",
    ),
    Claim(
        "fig3-above",
        "Fig. 3, section 4.1",
        "With batch norm about 3 points more of the images from elsewhere are memorized, in every cell.",
        ("ood",),
        difference("mem_acc"),
        every,
        where=ADDED,
        size=0.03,
        paper=0.03,
    ),
    Claim(
        "fig3-perfect",
        "Fig. 3, section 4.1",
        "Networks with batch norm fit the images from elsewhere perfectly (we ask for more than 99%).",
        ("ood",),
        value("mem_acc"),
        mean,
        where=ADDED,
        reference=None,
        margin=0.99,
        paper=1.0,
    ),
    Claim(
        "fig4-arms",
        "Fig. 4, section 4.2",
        "The gradients of flipped samples are larger with batch norm than without, in every cell.",
        ("influence",),
        ratio("grad_norm_out"),
        every,
        where=FLIPPED,
        ratio=True,
    ),
    Claim(
        "fig4-groups",
        "Fig. 4, section 4.2",
        "With batch norm the gradients of flipped samples are larger than those of clean ones, in every cell.",
        ("influence",),
        _within_arm,
        every,
        where=FLIPPED,
        reference=None,
        ratio=True,
    ),
    Claim(
        "fig4-contrast",
        "Fig. 4, section 4.2",
        "With batch norm the gradients of flipped samples stand out further from those of clean ones, in every cell.",
        ("influence",),
        _contrast,
        every,
        where=FLIPPED,
        ratio=True,
    ),
    Claim(
        "fig5-1pc",
        "Fig. 5, section 4.3",
        "With 1% of images from elsewhere, batch norm adds at least 3 points to the AUC of LiRA.",
        ("membership",),
        difference("mia_auc"),
        mean,
        where={**ADDED, "k": 0.01},
        table="samples",
        margin=0.03,
        paper=0.03,
    ),
    Claim(
        "fig5-5pc",
        "Fig. 5, section 4.3",
        "With 5% of images from elsewhere, batch norm adds at least 4 points to the AUC of LiRA.",
        ("membership",),
        difference("mia_auc"),
        mean,
        where={**ADDED, "k": 0.05},
        table="samples",
        margin=0.04,
        paper=0.04,
    ),
    Claim(
        "fig5-low-fpr",
        "Fig. 5, section 4.3",
        "At low false positive rates (0.1%) too, LiRA finds more members with batch norm, in every cell.",
        ("membership",),
        difference("mia_tpr_at_1e3fpr"),
        every,
        where=ADDED,
    ),
    Claim(
        "fig6-flips",
        "Fig. 6, section 4.3",
        "With flipped labels, batch norm adds about 5 points to the AUC of LiRA.",
        ("membership",),
        difference("mia_auc"),
        mean,
        where=FLIPPED,
        table="samples",
        size=0.05,
        paper=0.05,
    ),
    Claim(
        "fig7-above",
        "Fig. 7, section 5",
        "At k = 10% gamma/sigma is above 1 in every layer, at the end of training.",
        ("gamma_sigma",),
        _layer_ratio,
        every,
        where={**FLIPPED, "k": 0.1},
        reference=None,
        table="layers",
        ratio=True,
    ),
    Claim(
        "fig7-early",
        "Fig. 7, A.3",
        "Early layers have the larger gamma/sigma: it falls with depth.",
        ("gamma_sigma",),
        _layer_ratio,
        trend("depth"),
        where={**FLIPPED, "k": 0.1},
        reference=None,
        table="layers",
        alternative="less",
        ratio=True,
    ),
    Claim(
        "fig8-mitigated",
        "Fig. 8, section 6",
        "At some alpha, batch norm under the regularizer memorizes less than a network without batch norm.",
        ("regularizer",),
        difference("mem_acc"),
        some("alpha"),
        where=FLIPPED,
        arm=REGULARIZED,
        reference=PLAIN,
        alternative="less",
    ),
    Claim(
        "fig8-clean",
        "Fig. 8, section 6",
        "At some alpha, accuracy on clean samples stays near 1 under the regularizer (we ask for more than 95%).",
        ("regularizer",),
        value("clean_acc"),
        some("alpha"),
        where=FLIPPED,
        arm=REGULARIZED,
        reference=None,
        margin=0.95,
        paper=1.0,
    ),
    Claim(
        "fig8-alpha",
        "Fig. 8, section 6",
        "The smaller alpha, the less is memorized under the regularizer: memorization grows with alpha.",
        ("regularizer",),
        value("mem_acc"),
        trend("alpha"),
        where=FLIPPED,
        arm=REGULARIZED,
        reference=None,
    ),
    Claim(
        "fig9-above",
        "Fig. 9, C.1",
        "gamma/sigma is above 1 in every layer at every k, at the end of training.",
        ("gamma_sigma",),
        _layer_ratio,
        every,
        where=FLIPPED,
        reference=None,
        table="layers",
        ratio=True,
    ),
    Claim(
        "fig10-flipped",
        "Fig. 10, C.2",
        "Flipped labels' loss falls faster with batch norm at every k: in every cell its mean over epochs is lower.",
        ("label_noise",),
        difference("mem_loss"),
        every,
        where=FLIPPED,
        table="epochs",
        alternative="less",
    ),
    Claim(
        "fig10-clean",
        "Fig. 10, C.2",
        "Clean samples' loss falls faster with batch norm at every k: in every cell its mean over epochs is lower.",
        ("label_noise",),
        difference("clean_loss"),
        every,
        where=FLIPPED,
        table="epochs",
        alternative="less",
    ),
    Claim(
        "fig11-above",
        "Fig. 11, C.3",
        "With batch norm more than 3 points more of the images from elsewhere are memorized.",
        ("ood",),
        difference("mem_acc"),
        mean,
        where=ADDED,
        margin=0.03,
        paper=0.03,
    ),
    Claim(
        "fig12-clean",
        "Fig. 12, C.4",
        "Trained on clean data, batch norm adds at least 1 point to the AUC of LiRA.",
        ("membership",),
        difference("mia_auc"),
        mean,
        where={"k": 0.0},
        table="samples",
        margin=0.01,
        paper=0.01,
    ),
    Claim(
        "fig13-most",
        "Fig. 13, E.1",
        "At another learning rate, less is memorized without batch norm in 18 of 20 networks and datasets.",
        ("learning_rate",),
        difference("mem_acc"),
        most(but="k"),
        where=FLIPPED,
        paper=0.9,
    ),
    Claim(
        "fig14-spread",
        "Fig. 14, C.5",
        "The AUC of LiRA varies over cells alike with batch norm and without (we ask for a factor below 2).",
        ("membership",),
        _spread,
        within(2.0),
        ratio=True,
    ),
    Claim(
        "c5-attack",
        "C.5",
        "Over all cells, LiRA has a higher AUC against batch norm.",
        ("membership",),
        difference("mia_auc"),
        mean,
        paper_p=0.0011,
    ),
    Claim(
        "fig15-batches",
        "Fig. 15, E.2",
        "Batch norm memorizes more at every batch size.",
        ("batch_size",),
        difference("mem_acc"),
        every,
        where=FLIPPED,
    ),
    Claim(
        "fig16-optimizers",
        "Fig. 16, E.3",
        "Batch norm memorizes more with every optimizer.",
        ("optimizer",),
        difference("mem_acc"),
        every,
        where=FLIPPED,
    ),
    Claim(
        "fig17-norms",
        "Fig. 17, E.4",
        "Every norm memorizes more than none, at every k.",
        ("normalization",),
        difference("mem_acc"),
        every,
        where=FLIPPED,
        arm={"norm": ("batch", "group", "instance", "layer")},
    ),
    Claim(
        "fig18-gap",
        "Fig. 18, F",
        "The arms differ less in test accuracy than in memorization, in every cell: the latter less the former's size.",
        ("label_noise", "quickstart"),
        _gap,
        every,
        where=FLIPPED,
    ),
    Claim(
        "fig18-price",
        "Fig. 18, F",
        "Removing batch norm costs test accuracy.",
        ("label_noise", "quickstart"),
        difference("test_acc"),
        mean,
        where=FLIPPED,
    ),
    Claim(
        "fig19-complex",
        "Fig. 19, E.6",
        "On complex datasets too batch norm memorizes more, in every cell.",
        ("complex_data",),
        difference("mem_acc"),
        every,
        where=FLIPPED,
    ),
    Claim(
        "fig20-memorized",
        "Fig. 20, F",
        "The models that LiRA attacks memorize more with batch norm, in every cell.",
        ("membership",),
        difference("mem_acc"),
        every,
        where={"corruption": ("label", "ood")},
    ),
    Claim(
        "fig20-accuracy",
        "Fig. 20, F",
        "The models that LiRA attacks have the higher test accuracy with batch norm.",
        ("membership",),
        difference("test_acc"),
        mean,
    ),
    Claim(
        "table1-1pc",
        "Table 1, E.5",
        "At k = 1% a vision transformer memorizes more with layer norm than without, in every cell.",
        ("transformer",),
        difference("mem_acc"),
        every,
        where={**FLIPPED, "k": 0.01},
        arm={"norm": "layer"},
        paper=0.780,  # the table's mean over four datasets, 0.99575 - 0.21575
    ),
    Claim(
        "table1-5pc",
        "Table 1, E.5",
        "At k = 5% a vision transformer memorizes more with layer norm than without, in every cell.",
        ("transformer",),
        difference("mem_acc"),
        every,
        where={**FLIPPED, "k": 0.05},
        arm={"norm": "layer"},
        paper=0.754,  # 0.99625 - 0.2425
    ),
    Claim(
        "theory-amplified",
        "Prop. 5.6",
        "Batch norm amplifies the influence of flipped samples, their squared gradient norm.",
        ("influence",),
        _squared,
        mean,
        where=FLIPPED,
        ratio=True,
    ),
    Claim(
        "theory-size",
        "Cor. 5.3, Prop. 5.6",
        "The amplification is about (gamma/sigma)^2 (we ask that measured over predicted is within a factor of 2).",
        ("influence",),
        _measured_over_predicted,
        within(2.0),
        where=FLIPPED,
        ratio=True,
        paper=1.0,
    ),
)


@dataclass(frozen=True)
class Entry:
    """A claim and what became of it.

    Attributes:
        claim: the claim.
        verdict: `held`, `not held`, `undecided` or `not run`.
        finding: the numbers; None where it wasn't run.
        p_holm: the p, corrected over all claims that have one.
        found: the sweep, datasets and networks of the records.
    """

    claim: Claim
    verdict: str
    finding: Finding | None = None
    p_holm: float | None = None
    found: str = ""

    @property
    def position(self) -> str:
        """Where the paper's own number lies: `inside`, `above` or `below` the interval; empty where either lacks."""
        found, paper = self.finding, self.claim.paper
        if found is None or found.low is None or found.high is None or paper is None:
            return ""
        return "below" if paper < found.low else "above" if paper > found.high else "inside"


def ledger(results: Results, sweep: str | None = None, partial: bool = False) -> list[Entry]:
    """Every claim with its verdict, or those about one sweep.

    Held: Holm's corrected p is below 0.05 in the claimed direction and, for a claim on every cell, each cell's effect
    has the claimed sign. Not held: the 95% interval lies wholly on the other side, for a claimed size wholly short of
    it, or for a claim on every cell one cell's does, at 95% for all cells together. Undecided: otherwise, or too few
    pairs for an interval. Not run: no records.

    Args:
        results: the results folder.
        sweep: only claims that its records can decide.
        partial: accept a grid with holes, and leave out a member without partner instead of refusing it.

    Raises:
        BadInputError: there is no such folder or no claim about the sweep, its grid is incomplete or doubled, or a
            member has no partner.
    """
    there = [name for name in results.sweeps() if results.done(name)]
    asked = [claim for claim in CLAIMS if sweep in (None, *claim.sweeps)]
    if not asked:
        raise unknown("sweep with claims", str(sweep), {name for claim in CLAIMS for name in claim.sweeps})
    records: dict[str, Loaded] = {}
    entries = []
    for claim in asked:
        entry = Entry(claim, "not run")
        for name in claim.sweeps:
            if name not in there or sweep not in (None, name):
                continue
            if name not in records:
                records[name] = load(results, name, partial)
            entry = _examined(claim, records[name], results, partial)
            if entry.finding is not None:
                break
        entries.append(entry)
    return _decided(entries)


def _decided(entries: Sequence[Entry]) -> list[Entry]:
    """The entries with corrected p and verdicts."""
    p_values = pd.Series([None if one.finding is None else one.finding.p for one in entries], dtype=float)
    corrected = [None if np.isnan(p) else float(p) for p in holm(p_values)]
    return [
        one if one.finding is None else replace(one, p_holm=p, verdict=one.finding.verdict(p))
        for one, p in zip(entries, corrected, strict=True)
    ]


def _examined(claim: Claim, loaded: Loaded, results: Results, partial: bool) -> Entry:
    """What the records of a sweep say of a claim, if they have its cells."""
    members = _rows(loaded.members, claim.where)
    sides = [_rows(members, side) for side in (claim.arm, claim.reference) if side is not None]
    if any(side.empty for side in sides):
        return Entry(claim, "not run")
    about = pd.concat(sides)
    if claim.table == "samples":
        finding = _attacked(claim, replace(loaded, members=about), results, partial)
    else:
        finding = claim.test(claim, measured(claim, _widened(claim.table, loaded.sweep, about, results), partial))
    datasets, networks = (", ".join(sorted(about[name].unique())) for name in ("dataset", "architecture"))
    found = f"{loaded.sweep} on {datasets}, {networks}"
    return Entry(claim, "", hypotheses.in_ratios(finding) if claim.ratio else finding, found=found)


def measured(claim: Claim, members: pd.DataFrame, partial: bool = False) -> Effects:
    """The effect of every pair that has one, or of every member where the claim is about one arm.

    Args:
        claim: what is measured, of whom.
        members: rows of `members` in the claim's cells, with what its table adds.
        partial: leave out a member without partner instead of refusing it.

    Raises:
        BadInputError: a member has no partner.
    """
    arm = _rows(members, claim.arm)
    if claim.reference is None:
        rows, unpaired, unwell = arm, 0, arm["status"] != "ok"
    else:
        rows, unpaired = _paired(claim, arm, _rows(members, claim.reference), partial)
        unwell = (rows["status_arm"] != "ok") | (rows["status_ref"] != "ok")
    usable = rows[~unwell]
    effect = claim.effect(usable).astype(float)
    unit = "members" if claim.reference is None else "pairs"
    counts = {"missing": unpaired, "diverged or failed": int(unwell.sum()), "no value": int(effect.isna().sum())}
    notes = tuple(f"{count} {unit} left out: {why}" for why, count in counts.items() if count)
    strata = [*varying(arm), *(["depth"] if "depth" in rows and rows["depth"].nunique() > 1 else [])]
    frame = usable[[*strata, *STREAMS]].assign(effect=effect).dropna()
    return Effects(frame, tuple(strata), notes)


def _paired(claim: Claim, arm: pd.DataFrame, reference: pd.DataFrame, partial: bool) -> tuple[pd.DataFrame, int]:
    """Each arm beside the reference, matched on every other setting and the seed; and how many have no partner.

    The settings are the arm's. Arms of several levels have the same reference, and each needs all of it.
    """
    sides = {**dict(claim.arm), **dict(claim.reference or {})}
    loose = {*sides, *(name for side in (claim.arm, claim.reference or {}) for name in _silenced(side))}
    keys = [name for name in [*SETTINGS, *STREAMS] if name not in loose]
    columns = ["status", *(name for name in RESULTS if name in arm)]
    parts, alone = [], []
    free = [name for name in SETTINGS if name in loose]
    for _, part in arm.groupby(free):
        left, right = part[[*keys, *free, *columns]], reference[[*keys, *columns]]
        pairs = left.merge(right, on=keys, how="outer", suffixes=("_arm", "_ref"), indicator=True)
        parts.append(pairs[pairs["_merge"] == "both"])
        alone.append(pairs[pairs["_merge"] != "both"])
    unpaired = pd.concat(alone)
    if len(unpaired) and not partial:
        settings = [name for name in varying(pd.concat([arm, reference])) if name in keys]
        cell = ", ".join(f"{name}={level(unpaired.iloc[0][name])}" for name in [*settings, "seed"])
        raise BadInputError(
            f"{claim.id}: {len(unpaired)} members have no partner across {_told(claim.arm)} and "
            f"{_told(claim.reference or {})}, such as {cell}; --partial leaves them out."
        )
    return pd.concat(parts), len(unpaired)


def _attacked(claim: Claim, loaded: Loaded, results: Results, partial: bool) -> Finding:
    """The mean over cells of the difference in AUC, attacked anew with those models that both arms have."""
    from analysis import audit  # numba takes a second to import

    effects = measured(claim, loaded.members, partial)
    kept = _kept(claim, loaded.members)
    halves = kept[kept["protocol"] == "splits"]
    models = halves.groupby(["cell", "seed"]).size()
    if models.empty or models.min() < FEWEST_MODELS:
        return Finding(
            0, notes=(*effects.notes, f"an attack needs {FEWEST_MODELS} models on halves of D' in each cell")
        )
    gained = audit.differences(audit.audits(replace(loaded, members=halves), results), [ATTACK])
    overall = gained[gained["group"] == "all"].dropna(subset=["difference"])
    if overall.empty:
        return Finding(0, notes=(*effects.notes, "no AUC to compare"))
    intervals = list(overall[["difference", "low", "high"]].itertuples(index=False, name=None))
    found = hypotheses.averaged(intervals, int(overall["targets"].min()), claim.alternative, claim.margin)
    short = claim.size is not None and found.high is not None and found.high < claim.size
    return replace(found, contradicted=found.contradicted or short, notes=(*found.notes, *effects.notes))


def _kept(claim: Claim, members: pd.DataFrame) -> pd.DataFrame:
    """The members whose partner has results too, so that the models of both arms are the same ones."""
    keys = [name for name in [*SETTINGS, *STREAMS] if name not in claim.arm]
    well = members[members["status"] == "ok"]
    partners = well.groupby(keys)["status"].transform("size")
    return well[partners == len({*members["norm"]})]


def _widened(table: str, sweep: str, members: pd.DataFrame, results: Results) -> pd.DataFrame:
    """The members with what another table has of them: a mean over epochs for each result, or a row for each layer."""
    if table == "members":
        return members
    wanted = ["mem_loss", "clean_loss"] if table == "epochs" else ["depth", "ratio_mean"]
    read = results.read(sweep, table, [*KEY, "epoch", *wanted], trials=set(members["trial"])).to_pandas()
    if table == "epochs":
        found = read.groupby(KEY)[wanted].mean().reset_index()
    else:
        found = read[read["epoch"] == read.groupby(KEY)["epoch"].transform("max")].drop(columns="epoch")
    widened = members.drop(columns=[name for name in wanted if name in members]).merge(
        found, on=KEY, how="left", indicator=True
    )
    lost = widened[(widened["_merge"] != "both") & (widened["status"] == "ok")]
    if len(lost):
        raise BadInputError(
            f"{sweep}: {len(lost)} members have no {table}, such as {lost.iloc[0]['trial']}/{lost.iloc[0]['member']}; "
            f"run `python -m sweeps retry {sweep} --results {results.argument}`."
        )
    return widened.drop(columns="_merge")


def _rows(members: pd.DataFrame, levels: Levels) -> pd.DataFrame:
    """The members whose settings are among the levels."""
    chosen = pd.Series(True, index=members.index)
    for name, allowed in levels.items():
        chosen &= members[name].isin(allowed if isinstance(allowed, tuple) else (allowed,))
    return members[chosen]


def _allows(levels: Levels, settings: Levels) -> bool:
    return all(
        settings[name] in (allowed if isinstance(allowed, tuple) else (allowed,)) for name, allowed in levels.items()
    )


def _silenced(side: Levels) -> set[str]:
    """The settings that mean nothing at one of the side's levels."""
    return {other for name, at in side.items() if not isinstance(at, tuple) for other in silenced(name, at)}


def _told(side: Levels) -> str:
    return " ".join(f"{name}={'|'.join(at) if isinstance(at, tuple) else level(at)}" for name, at in side.items())
