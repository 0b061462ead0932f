import json
import platform
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

from study import run
from study.data.corruption import corrupt, corrupt_each
from study.data.dataset import Dataset, to_float
from study.data.load import load
from study.engine import BACKENDS
from study.errors import BadInputError
from study.lenses import gradient_norms, trained
from study.networks import build
from study.networks.catalog import NORMS
from study.networks.norms import batch_norms
from study.record.rows import Records, Row
from study.record.schema import SCHEMAS
from study.settings import SETTINGS
from study.training.loop import Member, orders
from study.trial import Trial
from tests.study.records import NOWHERE, read_back, small_trial
from tests.study.training.alone import train

PROVENANCE = {"backend", "pack", "device", "seconds", "started", "git_commit", "git_dirty", "versions"}
RESULTS = {
    *("mem_acc", "mem_loss", "true_label_acc", "clean_acc", "clean_loss", "test_acc", "test_loss"),
    *("mia_auc", "mia_attack", "mia_tpr_at_1e3fpr", "gamma_over_sigma", "epoch"),
}
VALIDATION = {"val_acc", "val_loss", "val_mia_auc"}


def member(data: Dataset, seed: int = 0, **settings: object) -> tuple[Row, list[Row]]:
    records = alone(small_trial(**settings), data, seed, lambda _: None)
    return records.members[0], records.tables["epochs"]


def alone(trial: Trial, data: Dataset, seed: int, progress: run.Progress) -> Records:
    corrupted = corrupt(data.train, data.classes, trial.corruption, trial.k, seed)
    (records,) = run.run_pack([Member(trial, seed, corrupted)], data, "cpu", "single", progress)
    return records


def scientific(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in PROVENANCE}


@pytest.fixture(scope="module")
def digits() -> tuple[Trial, Records, list[float]]:
    """Two members on real digits, two epochs each, and the progress that was told."""
    trial = Trial(k=0.1, epochs=2, batch_size=32, lr=1e-2, seed=(3, 5))
    fractions: list[float] = []
    return trial, run.run(trial, NOWHERE, "cpu", fractions.append, "single"), fractions


# Curves


def test_the_curve_of_each_member_is_told_as_it_goes_on():
    trial = Trial(k=0.1, subset=60, epochs=5, eval_every=2, batch_size=32, lr=1e-2, seed=(3, 5))
    heard: list[object] = []
    records = run.run(
        trial,
        NOWHERE,
        progress=heard.append,
        backend="single",
        curves=lambda trial, member, rows: heard.append((trial, member, [row["epoch"] for row in rows])),
    )
    points = [[0, [2]], [0, [4]], [0, [5]], [1, [2]], [1, [4]], [1, [5]]]
    assert [point for point in heard if isinstance(point, tuple)] == [(trial.id, *point) for point in points]
    # Each is told before the progress that it belongs to, one member being trained after the other.
    assert heard[1:3] == [(trial.id, 0, [2]), 0.2]
    assert len(records.tables["epochs"]) == 6


# A real trial


def test_a_trial_leaves_a_row_for_each_member_and_each_evaluated_epoch(digits):
    trial, records, _ = digits
    assert [(row["trial"], row["member"], row["seed"]) for row in records.members] == [
        (trial.id, 0, 3),
        (trial.id, 1, 5),
    ]
    points = [(row["member"], row["epoch"], row["step"]) for row in records.tables["epochs"]]
    assert points == [(0, 1, 45), (0, 2, 90), (1, 1, 45), (1, 2, 90)]


def test_the_rows_of_a_trial_fit_the_schemas_to_the_last_column(digits, tmp_path):
    trial, records, _ = digits
    tables = read_back(records, trial, tmp_path)
    for row, found in zip(records.members, tables["members"], strict=True):
        assert {name: found[name] for name in row} == row
        # Of 360 test images no threshold has a false positive rate of 0.1%, and not every copy is a git checkout.
        missing = {name for name, value in found.items() if value is None}
        # Neither gradients nor validation nor convergence nor robustness were asked for.
        unmeasured = {"error", "converged", "mia_tpr_at_1e3fpr", "grad_norm_out", "grad_norm_in", *VALIDATION}
        unmeasured |= {"noise_acc", "pgd_linf_acc", "pgd_l2_acc", "corruption_error", "output_bits", "weight_norm"}
        assert missing - {"git_commit", "git_dirty"} == unmeasured
        assert set(row) | {"schema_version"} | unmeasured == set(SCHEMAS["members"].names)
    for row, found in zip(records.tables["epochs"], tables["epochs"], strict=True):
        assert found == row


def test_a_member_says_what_it_is_and_of_how_many_samples_it_speaks(digits):
    trial, records, _ = digits
    for row in records.members:
        assert {name: row[name] for name in SETTINGS if name != "seed"} == {
            name: value for name, value in trial.settings().items() if name != "seed"
        }
        assert row["cell"] == trial.cell
        assert (row["n_out"], row["n_in"], row["n_test"], row["n_val"]) == (144, 1437 - 144, 360, 0)
        assert row["parameters"] == 61706 + 6 + 16 + 120 + 84
        assert row["status"] == "ok"


def test_a_member_says_where_it_comes_from(digits):
    for row in digits[1].members:
        assert (row["backend"], row["pack"]) == ("single", 1)
        assert row["device"].startswith(platform.machine())
        assert json.loads(row["versions"])["torch"] == torch.__version__.partition("+")[0]
        assert row["seconds"] > 0
        assert row["started"].tzinfo is not None


def test_a_member_on_digits_has_learned_something(digits):
    for row in digits[1].members:
        assert row["clean_acc"] > 0.5
        assert row["test_acc"] > 0.5
        assert row["mem_acc"] < row["clean_acc"]
        assert 0 <= row["mia_auc"] <= 1
        assert row["mia_attack"] == "global_threshold"
        assert row["gamma_over_sigma"] > 0


def test_the_last_point_of_a_curve_is_the_result(digits):
    _, records, _ = digits
    for row in records.members:
        last = [point for point in records.tables["epochs"] if point["member"] == row["member"]][-1]
        assert {name: row[name] for name in last.keys() & RESULTS} == {
            name: last[name] for name in last.keys() & RESULTS
        }


def test_progress_goes_up_and_ends_at_1(digits):
    assert digits[2] == [0.25, 0.5, 0.75, 1.0]


def test_a_trial_is_trained_on_one_thread_and_leaves_its_caller_as_many_as_before():
    before, within = torch.get_num_threads(), []

    def told(_: float) -> None:
        within.append(torch.get_num_threads())

    torch.set_num_threads(3)
    try:
        run.run(small_trial(seed=(0,)), NOWHERE, progress=told, backend="single")
        assert torch.get_num_threads() == 3
        with pytest.raises(BadInputError):
            run.run(small_trial(), NOWHERE, backend="groups")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert within == [1, 1]


def test_the_same_trial_gives_the_same_science(digits):
    trial, records, _ = digits
    torch.manual_seed(1234)
    again = run.run(trial, NOWHERE, backend="single")
    assert [scientific(row) for row in again.members] == [scientific(row) for row in records.members]
    assert again.tables["epochs"] == records.tables["epochs"]


def test_a_member_does_not_depend_on_the_other_members_of_its_trial(digits):
    trial, records, _ = digits
    alone = run.run(Trial.of({**trial.settings(), "seed": (5,)}), NOWHERE, backend="single").members[0]
    for name in RESULTS | {"seed", "cell"}:
        assert alone[name] == records.members[1][name]


# What is measured


# Labels are smoothed in training alone.
@pytest.mark.parametrize("settings", [*({"norm": norm} for norm in NORMS), {"label_smoothing": 0.3}], ids=str)
def test_the_metrics_are_those_of_the_network_that_the_parts_give(tiny, settings):
    row, _ = member(tiny, **settings, seed=1)
    trial = small_trial(**settings)
    corrupted = corrupt(tiny.train, tiny.classes, "label", 0.25, seed=1)
    network = build.build("lenet", tiny.shape, tiny.classes, trial.norm, seed=1)
    list(train(network, corrupted, trial, seed=1))
    network.eval()
    with torch.no_grad():
        logits = network(to_float(corrupted.images, torch.float32)).double()
        unseen = network(to_float(tiny.test.images, torch.float32)).double()
    answers, out = logits.argmax(dim=1), corrupted.labels != corrupted.original_labels

    def share(hits: torch.Tensor) -> float:
        return sum(hits.tolist()) / len(hits)

    def phi(logits: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
        p = logits.softmax(dim=1).gather(1, labels[:, None])[:, 0]
        return torch.log(p / (1 - p)).numpy()

    inside, outside = phi(logits, corrupted.labels), phi(unseen, tiny.test.labels)
    pairs = (inside[:, None] > outside).mean()
    expected = {
        "mem_acc": share(answers[out] == corrupted.labels[out]),
        "true_label_acc": share(answers[out] == corrupted.original_labels[out]),
        "clean_acc": share(answers[~out] == corrupted.labels[~out]),
        "test_acc": share(unseen.argmax(dim=1) == tiny.test.labels),
        "mem_loss": cross_entropy(logits[out], corrupted.labels[out]).item(),
        "clean_loss": cross_entropy(logits[~out], corrupted.labels[~out]).item(),
        "test_loss": cross_entropy(unseen, tiny.test.labels).item(),
        "mia_auc": pairs,
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_gamma_over_sigma_is_the_mean_over_layers_of_the_mean_over_channels(tiny):
    row, _ = member(tiny)
    network = build.build("lenet", tiny.shape, tiny.classes, "batch", seed=0)
    list(train(network, corrupt(tiny.train, 4, "label", 0.25, seed=0), small_trial(), seed=0))
    means = [
        (layer.weight.abs() / (layer.running_var + 1e-5).sqrt()).mean().item()
        for layer in network
        if isinstance(layer, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)
    ]
    assert row["gamma_over_sigma"] == pytest.approx(sum(means) / 4)
    assert member(tiny, norm="none")[0]["gamma_over_sigma"] is None


def test_without_corruption_nothing_is_said_of_the_atypical(tiny):
    row, _ = member(tiny, k=0)
    assert (row["n_out"], row["n_in"]) == (0, 40)
    assert row["mem_acc"] is row["mem_loss"] is row["true_label_acc"] is None
    assert row["clean_acc"] is not None


def test_arms_are_measured_on_the_same_samples(tiny):
    rows = [member(tiny, norm=norm, seed=7)[0] for norm in NORMS]
    shared = ("seed", "k", "n_out", "n_in", "n_test")
    assert len({tuple(row[name] for name in shared) for row in rows}) == 1
    assert len({row["cell"] for row in rows}) == len(NORMS)


@pytest.mark.parametrize(
    ("epochs", "eval_every", "expected"),
    [(5, 1, [1, 2, 3, 4, 5]), (5, 2, [2, 4, 5]), (4, 2, [2, 4]), (3, 10, [3]), (1, 1, [1])],
)
def test_curves_have_a_point_every_so_many_epochs_and_always_one_at_the_end(tiny, epochs, eval_every, expected):
    row, curve = member(tiny, epochs=epochs, eval_every=eval_every)
    assert [point["epoch"] for point in curve] == expected
    assert [point["step"] for point in curve] == [5 * epoch for epoch in expected]
    assert row["mem_acc"] == curve[-1]["mem_acc"]


def test_how_often_is_measured_does_not_change_what_is_trained(tiny):
    often, _ = member(tiny, epochs=4, eval_every=1)
    seldom, _ = member(tiny, epochs=4, eval_every=4)
    assert often["epoch"] == 4
    assert {name: often[name] for name in RESULTS} == {name: seldom[name] for name in RESULTS}


# What was set aside


def test_what_is_said_of_the_validation_set_is_said_as_of_the_test_set(tiny):
    row, curve = member(replace(tiny, validation=tiny.test))
    assert (row["n_test"], row["n_val"]) == (12, 12)
    assert row["val_mia_auc"] == row["mia_auc"]
    for point in (row, *curve):
        assert (point["val_acc"], point["val_loss"]) == (point["test_acc"], point["test_loss"])


def test_setting_samples_aside_changes_nothing_but_what_is_said_of_them(tiny):
    without, curve = member(tiny)
    row, other = member(replace(tiny, validation=tiny.test))
    differ = VALIDATION | {"n_val"}
    assert {name: value for name, value in scientific(row).items() if name not in differ} == {
        name: value for name, value in scientific(without).items() if name not in differ
    }
    assert [point["mem_loss"] for point in other] == [point["mem_loss"] for point in curve]
    assert {without[name] for name in VALIDATION} == {None}


ASIDE = Trial(k=0.1, subset=300, validation=0.2, epochs=3, batch_size=32, lr=1e-2, samples="scores", seed=(1, 2))


def test_members_are_corrupted_and_trained_on_what_is_left(tmp_path):
    trial = replace(ASIDE, stopping="best")
    records = run.run(trial, NOWHERE, backend="single")
    tables = read_back(records, trial, tmp_path)
    data = load("digits", NOWHERE, 300, 0.2)
    for row in tables["members"]:
        assert (row["n_out"], row["n_in"], row["n_val"], row["n_test"]) == (24, 216, 60, 360)
        assert None not in {row[name] for name in VALIDATION}
        curve = [point for point in tables["epochs"] if point["member"] == row["member"]]
        assert [point["epoch"] for point in curve] == [1, 2, 3]
        assert row["val_acc"] == max(point["val_acc"] for point in curve)
        original = [each["original_label"] for each in tables["samples"] if each["member"] == row["member"]]
        assert original == data.train.labels.tolist()
    aside = {image.numpy().tobytes() for image in data.validation.images}
    for of_member in run.make_members([trial], data, NOWHERE, "cpu"):
        assert not aside & {image.numpy().tobytes() for image in of_member.corrupted.images}


def test_halves_are_of_what_is_left():
    trial = replace(ASIDE, subset=75, protocol="splits", models=6, seed=(2,))
    records = run.run(trial, NOWHERE, backend="single")
    for row in records.members:
        assert (row["n_out"] + row["n_in"], row["n_val"], row["mia_attack"]) == (30, 15, "lira_online")
        assert None not in {row[name] for name in VALIDATION}


# Outcomes


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("epochs", [1, 3])
def test_a_member_that_diverges_is_an_outcome_without_results(tiny, norm, epochs):
    fractions: list[float] = []
    trial = small_trial(norm=norm, lr=1e30, epochs=epochs)
    records = alone(trial, tiny, 0, fractions.append)
    (row,), curve = records.members, records.tables["epochs"]
    assert row["status"] == "diverged"
    assert "finite" in row["error"] or "loss is" in row["error"]
    assert not RESULTS & row.keys()
    assert (row["n_out"], row["n_in"], row["n_test"]) == (10, 30, 12)
    assert len(curve) < epochs
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


def test_a_diverged_member_is_recorded_with_null_metrics(tmp_path):
    trial = Trial(k=0.1, epochs=1, lr=1e30, norm="none", seed=(0, 1))
    fractions: list[float] = []
    records = run.run(trial, NOWHERE, progress=fractions.append, backend="single")
    rows = read_back(records, trial, tmp_path)["members"]
    assert [row["status"] for row in rows] == ["diverged"] * 2
    assert {row[name] for row in rows for name in RESULTS} == {None}
    assert all(row["error"] and row["n_out"] == 144 for row in rows)
    assert fractions == [0.5, 1]


def test_samples_have_the_score_and_the_group_of_every_sample_of_every_member(tmp_path):
    trial = Trial(k=0.1, epochs=1, samples="scores", seed=(0, 1))
    found = pd.DataFrame(read_back(run.run(trial, NOWHERE, backend="single"), trial, tmp_path)["samples"])
    assert found.groupby("member").size().tolist() == [1437, 1437]
    for seed, part in found.groupby("member"):
        corrupted = corrupt(load("digits", NOWHERE).train, 10, "label", 0.1, seed)
        assert part["sample"].tolist() == list(range(1437))
        assert (part["group"] == "corrupted").tolist() == corrupted.atypical.tolist()
        assert part["label"].tolist() == corrupted.labels.tolist()
        assert part["original_label"].tolist() == corrupted.original_labels.tolist()
        assert part["is_member"].all()
        # A sample is correct just where no other logit is larger, so its score cannot be very low.
        assert (part.loc[part["score"] > 0, "correct"]).all()
    assert found["grad_norm"].isna().all()


def test_samples_are_kept_only_where_they_are_asked_for(digits):
    assert len(digits[1].tables["samples"]) == 0


@pytest.mark.parametrize(("corruption", "group"), [("ood", "ood"), ("natural", "natural")])
def test_the_other_corruptions_go_by_their_own_name(corruption, group):
    trial = Trial(corruption=corruption, k=0.1, epochs=1, samples="scores")
    records = run.run(trial, NOWHERE, backend="single")
    groups = records.tables["samples"]["group"].to_pylist()
    assert groups.count(group) == records.members[0]["n_out"] == 144
    assert groups.count("clean") == records.members[0]["n_in"]
    assert (records.members[0]["true_label_acc"] is None) == (corruption == "ood")


def test_layers_have_a_row_for_each_norm_and_evaluated_epoch():
    trials = [Trial(k=0.1, epochs=4, eval_every=2, norm=norm) for norm in ("batch", "none")]
    batch, none = (run.run(trial, NOWHERE, backend="single") for trial in trials)
    assert [(row["epoch"], row["depth"]) for row in batch.tables["layers"]] == [
        (e, d) for e in (0, 2, 4) for d in range(4)
    ]
    assert none.tables["layers"] == []
    assert [row["epoch"] for row in batch.tables["epochs"]] == [2, 4]


def inputs_of_norms(network: torch.nn.Module) -> list[torch.Tensor]:
    """The list to which each batch norm's input is added, [channels, values], as the network is called."""
    inputs: list[torch.Tensor] = []
    for _, layer in batch_norms(network):
        layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0].transpose(0, 1).flatten(1)))
    return inputs


@pytest.mark.parametrize("backend", BACKENDS)
def test_sigma_before_training_is_that_of_the_first_samples(backend, monkeypatch, tiny):
    """The slow way: the built network in train mode, by a hook on each batch norm's input."""
    made = build.build
    monkeypatch.setattr(build, "build", lambda *given: made(*given).double())
    monkeypatch.setattr(trained, "INITIAL_SAMPLES", 30)
    trial = small_trial(seed=(0, 1) if backend != "single" else (1,))
    corrupted = corrupt_each(tiny.train, tiny.classes, "label", [(trial.k, seed) for seed in trial.seed])
    members = [Member(trial, seed, own) for seed, own in zip(trial.seed, corrupted, strict=True)]
    for member, records in zip(members, run.run_pack(members, tiny, "cpu", backend, lambda _: None), strict=True):
        network = made("lenet", tiny.shape, tiny.classes, "batch", member.seed).double().train()
        inputs = inputs_of_norms(network)
        first = orders([member.seed], 40, 1)[0, :30]
        network(to_float(member.corrupted.images[first], torch.float64))
        rows = [row for row in records.tables["layers"] if row["epoch"] == 0]
        for row, values, (name, layer) in zip(rows, inputs, batch_norms(network), strict=True):
            sigma = (values.var(dim=1, unbiased=False) + layer.eps).sqrt()
            assert (row["layer"], row["gamma_q05"], row["gamma_mean"]) == (name, 1, 1)
            assert row["sigma_mean"] == pytest.approx(sigma.mean().item(), rel=1e-9)
            assert row["sigma_median"] == pytest.approx(sigma.quantile(0.5).item(), rel=1e-9)
            assert row["ratio_mean"] == pytest.approx((1 / sigma).mean().item(), rel=1e-9)


def test_gradient_norms_are_recorded_for_each_sample_and_as_the_means_of_both_groups(tmp_path):
    trial = Trial(k=0.1, epochs=1, samples="gradients", seed=(3,))
    records = run.run(trial, NOWHERE, backend="single")
    found = pd.DataFrame(read_back(records, trial, tmp_path)["samples"])
    assert (found["grad_norm"] > 0).all()
    means = found.groupby("group")["grad_norm"].mean()
    assert records.members[0]["grad_norm_out"] == pytest.approx(means["corrupted"], rel=1e-5)
    assert records.members[0]["grad_norm_in"] == pytest.approx(means["clean"], rel=1e-5)


def test_all_packs_of_a_trial_have_d_and_the_outsiders_that_are_added_in_memory_once(monkeypatch):
    pools = []
    ordinary = run.run_pack
    monkeypatch.setattr(
        run,
        "run_pack",
        lambda members, *rest: pools.extend(each.corrupted.pool for each in members) or ordinary(members, *rest),
    )
    run.run(Trial(corruption="ood", k=0.1, epochs=1, batch_size=256, seed=(0, 1, 2)), NOWHERE, backend="single")
    assert len(pools) == 3
    assert len({id(pool) for pool in pools}) == 1
    assert 1437 + 144 < len(pools[0]) <= 1437 + 3 * 144


def together(backend: str, data: Dataset) -> list[Records]:
    """Two members of a trial that asks for gradients."""
    trial = small_trial(samples="gradients", optimizer="sgd", epochs=1)
    members = [Member(trial, seed, corrupt(data.train, data.classes, "label", 0.25, seed)) for seed in (0, 1)]
    if backend == "single":
        return [records for one in members for records in run.run_pack([one], data, "cpu", backend, lambda _: None)]
    return run.run_pack(members, data, "cpu", backend, lambda _: None)


@pytest.mark.parametrize("backend", ["grouped", "vmap"])
def test_members_side_by_side_have_the_gradient_norms_that_they_have_alone(tiny, backend):
    for found, alone in zip(together(backend, tiny), together("single", tiny), strict=True):
        wanted = alone.tables["samples"]["grad_norm"].to_pylist()
        assert found.tables["samples"]["grad_norm"].to_pylist() == pytest.approx(wanted, rel=1e-3)
        assert found.members[0]["grad_norm_in"] == pytest.approx(alone.members[0]["grad_norm_in"], rel=1e-3)


def test_a_gradient_that_is_not_finite_is_the_outcome_of_that_member_alone(tiny, monkeypatch):
    expected = together("grouped", tiny)

    def after_a_fault(pack, images, rows, labels):
        with torch.no_grad():
            next(pack.networks[0].parameters())[0] = torch.nan
        return grad_norms(pack, images, rows, labels)

    grad_norms = gradient_norms.grad_norms
    monkeypatch.setattr(gradient_norms, "grad_norms", after_a_fault)
    broken, sound = together("grouped", tiny)
    assert (broken.members[0]["status"], broken.members[0]["error"]) == ("diverged", "a gradient is not finite")
    assert not RESULTS & broken.members[0].keys()
    assert len(broken.tables["samples"]) == 0
    assert sound.members[0]["status"] == "ok"
    assert sound.tables["samples"] == expected[1].tables["samples"]


UNFIT = """
from torch import nn

class Tuple(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(shape[0], 8, 3, bias=False), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, classes)

    def forward(self, images):
        logits = self.head(self.bn(self.conv(images)).mean(dim=(2, 3)))
        return (logits, logits) if self.training else logits

def untracked(shape, classes):
    return nn.Sequential(
        nn.Conv2d(shape[0], 8, 3), nn.BatchNorm2d(8, track_running_stats=False), nn.Flatten(), nn.LazyLinear(classes)
    )
"""


@pytest.mark.parametrize(
    ("name", "said"), [("Tuple", "in train mode, not a tuple"), ("untracked", "layer '1' has no running statistics")]
)
def test_an_unfit_network_of_the_users_is_refused_before_any_training(name, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / f"unfit_{name}.py").write_text(UNFIT)
    trial, seen = Trial(architecture=f"unfit_{name}:{name}", subset=100, k=0.1, epochs=1), []
    with pytest.raises(BadInputError, match=said):
        run.check(trial, NOWHERE)
    with pytest.raises(BadInputError, match=said):
        run.run(trial, NOWHERE, progress=seen.append)
    assert not seen
