"""The audit of a sweep, from records whose scores are planted."""

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.cells import CELL_SETTINGS
from analysis.load import Loaded, load
from analysis.metrics import select_metrics
from analysis.report import tables
from analysis.statistics import membership
from analysis.statistics.paired import compare
from study.data.splits import halves
from study.errors import BadInputError
from study.mia.audit import ATTACKS
from study.mia.intervals import mean_auc, mean_auc_difference, mean_tpr
from study.mia.roc import attack_metrics
from study.record.results import Results
from study.record.rows import describe
from study.trial import Trial
from tests.analysis.conftest import grid, plan

MODELS, SAMPLES = 12, 300
OUT = np.arange(SAMPLES) < 60
TRIALS = grid(k=0.25, norm=("batch", "none"), protocol="splits", models=MODELS, seed=(3,))
GAP = {"batch": 2.0, "none": 0.5}
"""How much higher an arm's models score what they were trained on, in standard deviations."""

Change = Callable[[Trial, dict[str, object]], object]


def scores(trial: Trial, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """[MODELS, SAMPLES] scores, float32 as they are recorded, and who is in."""
    is_member = halves(OUT, MODELS, seed)
    noise = np.random.default_rng([seed, len(trial.norm)]).normal(size=is_member.shape)
    return (GAP[trial.norm] * is_member + noise).astype(np.float32), is_member


def write(
    results: Results, *trials: Trial, lost: tuple[int, ...] = (), dead: tuple[int, ...] = (), sweep: str = "mine"
) -> None:
    """Records of trials, of which the lost models diverged and the dead ones give every sample one score."""
    plan(results, trials, sweep)
    image = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(image, format="PNG")
    for trial in trials:
        members, samples, images = [], [], []
        for number, (seed, model) in enumerate(trial.members):
            of_model, is_member = (each[model] for each in scores(trial, seed))
            attack = "global_threshold" if model in dead else "lira_online"
            outcome: dict[str, object] = {"status": "ok", "mia_auc": 0.5, "mia_attack": attack}
            if model in lost:
                outcome = {"status": "diverged"}
            members.append({"trial": trial.id, "member": number, **describe(trial, seed, model), **outcome})
            if model not in lost:
                samples += [
                    {
                        "trial": trial.id,
                        "member": number,
                        "sample": sample,
                        "group": "corrupted" if OUT[sample] else "clean",
                        "label": sample % 4,
                        "original_label": sample % 4,
                        "is_member": bool(is_member[sample]),
                        "score": 0.0 if model in dead else float(of_model[sample]),
                        "correct": bool(of_model[sample] > 0),
                    }
                    for sample in range(SAMPLES)
                ]
        named = {"group": "clean", "label": 1, "original_label": 2, "in_acc": 1.0, "out_acc": 0.0}
        for seed in trial.seed:
            images += [
                {"trial": trial.id, "seed": seed, "sample": sample, **named, "image": image.getvalue()}
                for sample in range(12)
            ]
        results.write(sweep, trial.id, {"members": members, "samples": samples, "images": images})


def loaded(results: Results, *trials: Trial, **settings: object) -> Loaded:
    write(results, *trials, **settings)
    return load(results, "mine")


def test_each_attack_in_each_cell_and_group_is_what_it_makes_of_the_recorded_scores(results):
    table = membership.attack_table(
        membership.audit_cells(loaded(results, *TRIALS), results), ["lira_online", "global_threshold"]
    )
    assert len(table) == 2 * 2 * 3
    trial = next(trial for trial in TRIALS if trial.norm == "batch")
    planted, is_member = scores(trial, 3)
    found = ATTACKS["lira_online"](planted, is_member)
    (row,) = table.query("norm == 'batch' and attack == 'lira_online' and group == 'corrupted'").to_dict("records")
    wanted = mean_auc(found[:, OUT], is_member[:, OUT])
    assert (row["auc"], row["low"], row["high"], row["targets"]) == (wanted.mean, wanted.low, wanted.high, MODELS)
    each = [attack_metrics(found[target, OUT], is_member[target, OUT]) for target in range(MODELS)]
    assert row["tpr_at_0fp"] == pytest.approx(np.mean([measures.tpr_at_0fp for measures in each]))
    assert (row["n_in"], row["n_out"]) == (30, 30)


def test_rates_come_with_intervals_and_ties_are_told(results):
    table = membership.attack_table(
        membership.audit_cells(loaded(results, *TRIALS), results), ["global_threshold", "rmia_online"]
    ).set_index(["norm", "group", "attack"])
    row = table.loc[("batch", "all", "global_threshold")]
    planted, is_member = scores(next(trial for trial in TRIALS if trial.norm == "batch"), 3)
    wanted = mean_tpr(planted.astype(np.float64), is_member, 0.01)
    assert (row["tpr_at_1e2fpr"], row["tpr_at_1e2fpr_low"], row["tpr_at_1e2fpr_high"]) == (
        *(wanted.mean, wanted.low, wanted.high),
    )
    assert (table["ties"] == 0).all()
    shown = tables.audit_table(table.reset_index(), "").cells
    assert f"{100 * wanted.mean:.2f}% [{100 * wanted.low:.2f}, {100 * wanted.high:.2f}]" in str(shown)


def test_a_rate_that_a_target_can_not_resolve_is_missing(results):
    table = membership.attack_table(
        membership.audit_cells(loaded(results, *TRIALS), results), ["global_threshold"]
    ).set_index(["norm", "group"])
    assert table.loc[("batch", "all"), "tpr_at_1e2fpr"] > 0
    assert pd.isna(table.loc[("batch", "all"), "tpr_at_1e3fpr"])
    assert pd.isna(table.loc[("batch", "corrupted"), "tpr_at_1e2fpr"])


def test_a_difference_is_paired_over_targets_and_samples(results):
    found = membership.auc_differences(membership.audit_cells(loaded(results, *TRIALS), results), ["rmia_offline"])
    (row,) = found.query("group == 'all'").to_dict("records")
    assert (row["arm"], row["reference"]) == ("batch", "none")
    sides = {trial.norm: scores(trial, 3) for trial in TRIALS}
    arm, none = (ATTACKS["rmia_offline"](*sides[norm]) for norm in ("batch", "none"))
    wanted = mean_auc_difference(arm, none, sides["none"][1])
    assert (row["difference"], row["low"], row["high"]) == (wanted.mean, wanted.low, wanted.high)
    assert row["low"] > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("models", [16, 32])
def test_two_arms_of_one_optimum_differ_no_more_in_the_limit_of_many_shadows(models):
    # A member's score is as many standard deviations higher in both arms; in one each sample's spread is its own.
    generator = np.random.default_rng(models)
    is_member = generator.random((models, 3000)).argsort(axis=0) < models // 2
    shifted = generator.normal(size=is_member.shape) + 1.5 * is_member
    own = np.exp(1.5 * generator.normal(size=3000))
    found = membership.difference_limits(
        [
            membership.CellAudit({"norm": norm}, np.arange(models), scores[None], *[is_member] * 2, clean, 0)
            for norm, scores in (("batch", shifted), ("none", own * shifted))
            for clean in [np.full(3000, "clean")]
        ]
    ).set_index("attack")
    online, offline = found.loc["lira_online"], found.loc["lira_offline"]
    assert online["difference"] > 0.15 / models
    assert abs(online["limit"]) < 0.4 * online["difference"]
    assert abs(offline["limit"]) < 0.4 * online["difference"]
    assert offline["difference"] < online["difference"]


def noise_arms(models: int) -> list[membership.CellAudit]:
    """Two arms of noise, in which nobody leaks."""
    noise = np.random.default_rng(0).normal(size=(models, 60))
    is_member = halves(np.arange(60) < 20, models, 0)
    cell = membership.CellAudit({"norm": "batch"}, np.arange(models), noise[None], is_member, is_member, OUT[:60], 0)
    settings = {name: getattr(TRIALS[0], name) for name in CELL_SETTINGS} | {"seed": 0}
    return [replace(cell, settings={**settings, "norm": norm}) for norm in ("batch", "none")]


def test_the_auc_by_the_number_of_shadows_ends_with_its_limit():
    audited = noise_arms(12)
    found = membership.auc_by_shadows(audited).query("group == 'all'")
    for (norm, attack), rows in found.groupby(["norm", "attack"]):
        assert rows["shadows"].tolist() == [3, 5, np.inf]
        few, many, limit = rows["auc"]
        assert limit == pytest.approx((5 * many - 3 * few) / 2)
        (cell,) = (cell for cell in audited if cell.norm == norm)
        assert many == mean_auc(ATTACKS[attack](cell.scores[0], cell.is_member), cell.is_member).mean
    shown = tables.shadows_table(found, "")
    assert shown.headers[-3:] == ["3 a side", "5 a side", "infinitely many"]
    assert len(shown.cells) == 4


@pytest.mark.parametrize("models", [6, 10])
def test_too_few_models_have_no_limit(models):
    assert membership.difference_limits(noise_arms(models))["limit"].isna().all()


def test_seeds_are_audits_of_their_own(results):
    trials = [replace(trial, seed=(3, 5)) for trial in TRIALS]
    table = membership.attack_table(membership.audit_cells(loaded(results, *trials), results), ["global_threshold"])
    assert sorted(table.query("norm == 'batch' and group == 'all'")["seed"]) == [3, 5]
    assert (
        len(membership.auc_differences(membership.audit_cells(load(results, "mine"), results), ["global_threshold"]))
        == 2 * 3
    )


def test_the_mean_over_training_sets_has_students_interval(results):
    trials = [replace(trial, seed=(3, 5, 6)) for trial in TRIALS]
    audited = membership.audit_cells(loaded(results, *trials), results)
    table = membership.attack_table(audited, ["global_threshold", "rmia_online"])
    found = membership.over_training_sets(table, "auc").set_index(["norm", "attack", "group"])
    assert len(found) == len(table) / 3
    assert (found["training_sets"] == 3).all()
    aucs = table.query("norm == 'batch' and group == 'all' and attack == 'rmia_online'")["auc"]
    row = found.loc[("batch", "rmia_online", "all")]
    half = 4.302652729911275 * aucs.std() / np.sqrt(3)  # the 97.5% quantile of Student's t with two degrees of freedom
    assert (row["auc"], row["low"], row["high"]) == pytest.approx((aucs.mean(), aucs.mean() - half, aucs.mean() + half))
    titles = [table.title for table in tables.audit_tables(audited, ["rmia_online"], "mine")]
    assert [title.endswith(", mean over D'") for title in titles] == [False, True, False, True]


def test_the_value_of_one_training_set_has_no_interval():
    rows = pd.DataFrame({"norm": ["batch"] * 3, "seed": [0, 1, 2], "group": "all", "auc": [np.nan, 0.6, np.nan]})
    (row,) = membership.over_training_sets(rows, "auc").to_dict("records")
    assert (row["auc"], row["training_sets"]) == (0.6, 1)
    assert np.isnan(row["low"])
    shown = tables.training_sets_table(membership.over_training_sets(rows, "auc"), "auc", "")
    assert [list(cells) for cells in shown.cells] == [["batch", "all", "0.600", "1"]]


def audit_of(leaks: np.ndarray, memorized: np.ndarray) -> membership.CellAudit:
    """A cell whose models score samples that they have higher, and know their labels, by as much as is given."""
    is_member = halves(OUT, 32, 0)
    noise = np.random.default_rng(0)
    scores = noise.normal(size=(1, *is_member.shape)) + is_member * leaks
    correct = is_member & (noise.uniform(size=is_member.shape) < memorized)
    return membership.CellAudit({"norm": "batch"}, np.arange(32), scores, is_member, correct, OUT.astype(str), 0)


def test_memorization_goes_with_leakage_where_the_same_samples_have_both():
    level = np.linspace(0, 1, SAMPLES)
    for leaks, expected in ((4 * level, 0.75), (4 * level[::-1], -0.75), (np.full(SAMPLES, 2.0), 0.0)):
        found = membership.memorization_and_leakage(audit_of(leaks, level))
        assert found == pytest.approx([expected] * 2, abs=0.15)
    assert np.isnan(membership.memorization_and_leakage(audit_of(level, np.zeros(SAMPLES)))).all()


def test_a_model_that_diverged_or_is_dead_is_left_out_of_both_arms_and_of_their_shadows(results):
    plan(results, TRIALS)
    write(results, TRIALS[0], lost=(2,))
    write(results, TRIALS[1], dead=(5,))
    audited = membership.audit_cells(load(results, "mine"), results)
    assert [(one.excluded, {*range(MODELS)} - {*one.models}) for one in audited] == [(1, {2}), (1, {5})]
    (row,) = membership.auc_differences(audited, ["lira_online"]).query("group == 'all'").to_dict("records")
    both = sorted({*range(MODELS)} - {2, 5})
    sides = {trial.norm: [each[both] for each in scores(trial, 3)] for trial in TRIALS}
    arm, none = (ATTACKS["lira_online"](*sides[norm]) for norm in ("batch", "none"))
    wanted = mean_auc_difference(arm, none, sides["batch"][1])
    assert (row["difference"], row["low"], row["high"], row["targets"]) == (
        wanted.mean,
        wanted.low,
        wanted.high,
        MODELS - 2,
    )


def test_what_a_threshold_gives_where_there_are_too_few_shadows_is_nowhere_among_lira_s(results):
    plan(results, TRIALS)
    write(results, TRIALS[0])
    write(results, TRIALS[1], dead=tuple(range(MODELS)))
    found = load(results, "mine")
    without = found.members["norm"] == TRIALS[1].norm
    assert found.members.loc[without, "mia_auc"].isna().all()
    assert found.members.loc[~without, "mia_auc"].notna().all()
    assert found.notes == [
        "mine: models that tell no samples apart, or have too few others as shadows, have no membership AUC: "
        f"{MODELS} of norm={TRIALS[1].norm} seed=3."
    ]
    (audited,) = membership.audit_cells(found, results)
    assert audited.norm == TRIALS[0].norm
    comparison = compare(found.members, "norm", metrics=select_metrics(["mia_auc"]))
    assert comparison["n"].tolist() == [0]


def test_without_a_partner_there_is_no_difference(results):
    assert membership.auc_differences(membership.audit_cells(loaded(results, TRIALS[0]), results)).empty


def test_samples_that_are_incomplete_are_refused(results):
    found = loaded(results, TRIALS[0])
    shard = results.read("mine", "samples")
    results.write("mine", TRIALS[0].id, {"samples": shard.slice(1)})
    with pytest.raises(BadInputError, match="incomplete; run `retry mine`"):
        membership.audit_cells(found, results)


def test_a_sweep_without_halves_is_refused(results):
    trial = Trial(k=0.1)
    plan(results, [trial])
    results.write(
        "mine", trial.id, {"members": [{"trial": trial.id, "member": 0, **describe(trial, 0), "status": "ok"}]}
    )
    with pytest.raises(BadInputError, match="--set protocol=splits"):
        membership.audit_cells(load(results, "mine"), results)


def test_an_attack_that_is_none_is_refused(results):
    with pytest.raises(BadInputError, match="did you mean 'lira_online'"):
        membership.attack_table(membership.audit_cells(loaded(results, *TRIALS), results), ["lira_onlin"])
