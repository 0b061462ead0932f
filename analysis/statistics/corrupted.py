"""The further test sets of the 2019 paper's networks: corrupted images by family, and CIFAR-10.1.

Accuracies on them are in the table `robustness`, and are joined to the members here.
"""

import pandas as pd

from analysis.load import KEY, corrupted_images
from study.corruptions.names import FAMILIES
from study.perturbations import CIFAR10_1
from study.record.results import Results

NOISES = ("gaussian_noise", "impulse_noise", "shot_noise", "speckle_noise")
"""The four families of the category "noise", in the order of the paper's Table 4."""
FAMILY_ACCURACIES = tuple(f"{family}_acc" for family in FAMILIES)
"""The accuracy under each family, a mean over its severities."""
CORRUPTED_BY = "corrupted_by"
"""The column that says in words which corrupted images there were."""
CORRUPTED_ACC = "corrupted_acc"
"""The accuracy under one family at one severity, where each is a row of its own."""
FINER = ["family", "severity"]
"""The columns that tell these rows apart."""
NEW_ACCURACIES = ("clean_101_acc", "noise_101_acc", "pgd_linf_101_acc", "pgd_l2_101_acc")
"""The accuracies on CIFAR-10.1: on its images as they are, and under the paper's noise and attacks."""
NOISE_SPREAD = 0.25
"""The standard deviation of the paper's noise on colour images."""


def with_corruptions(sweep: str, members: pd.DataFrame, results: Results) -> pd.DataFrame:
    """Return the members with `FAMILY_ACCURACIES`, NaN for a family that was not shown, and `CORRUPTED_BY`."""
    rows = _corrupted(sweep, members, results)
    # A network that could not be tested at one severity has no mean.
    means = rows.groupby([*KEY, "family"])["acc"].agg(lambda values: values.mean(skipna=False)).unstack("family")
    means = means.add_suffix("_acc").reindex(columns=list(FAMILY_ACCURACIES))
    told = corrupted_images(rows.rename(columns={"family": "perturbation"}))
    return members.merge(means.assign(**{CORRUPTED_BY: told}).reset_index(), on=KEY, how="left")


def with_severities(sweep: str, members: pd.DataFrame, results: Results) -> pd.DataFrame:
    """Return each member once for each of `NOISES` and severity (`FINER`), with `CORRUPTED_ACC`.

    A member without results has all of these rows too, so that none lacks its partner. Where no corrupted images were
    shown, there is a row a member.
    """
    rows = _corrupted(sweep, members, results)
    noises = rows[rows["family"].isin(NOISES)].rename(columns={"acc": CORRUPTED_ACC})
    if noises.empty:
        return members.assign(**{CORRUPTED_ACC: float("nan")})
    each = members.merge(noises[FINER].drop_duplicates(), how="cross")
    return each.merge(noises[[*KEY, *FINER, CORRUPTED_ACC]], on=[*KEY, *FINER], how="left")


def _corrupted(sweep: str, members: pd.DataFrame, results: Results) -> pd.DataFrame:
    """Return a row for each member, `family` and severity, with `acc` and `split`."""
    columns = [*KEY, "suite", "perturbation", "severity", "split", "acc"]
    rows = results.read(sweep, "robustness", columns, trials=set(members["trial"])).to_pandas()
    of_suite: pd.DataFrame = rows[rows["suite"] == "corruptions"].rename(columns={"perturbation": "family"})
    return of_suite


def with_new_test_set(sweep: str, members: pd.DataFrame, results: Results) -> pd.DataFrame:
    """Return the members with `NEW_ACCURACIES`, NaN where CIFAR-10.1 was not shown."""
    columns = [*KEY, "suite", "perturbation", "norm", "epsilon", "clip_low", "split", "acc", "clean_acc"]
    rows = results.read(sweep, "robustness", columns, trials=set(members["trial"])).to_pandas()
    rows = rows[(rows["split"] == CIFAR10_1) & (rows["suite"] == "paper2019")]
    pgd = rows[(rows["perturbation"] == "pgd") & rows["clip_low"].notna()]
    noise = rows[(rows["perturbation"] == "noise") & (rows["epsilon"] == NOISE_SPREAD)]
    parts = (noise, noise, pgd[pgd["norm"] == "linf"], pgd[pgd["norm"] == "l2"])
    for name, part in zip(NEW_ACCURACIES, parts, strict=True):
        column = "clean_acc" if name == "clean_101_acc" else "acc"
        members = members.merge(part[[*KEY, column]].rename(columns={column: name}), on=KEY, how="left")
    return members
