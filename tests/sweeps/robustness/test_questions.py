from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

from study.networks.catalog import NETWORKS
from study.trial import Trial
from sweeps import estimate, registry, robustness
from sweeps.sweep import Scale

NAMES = sorted(path.stem for path in Path(robustness.__path__[0]).glob("*.py"))
SWEEPS = [name for name in NAMES if name not in ("__init__", "grids")]
OF_PAPER = [name for name in SWEEPS if name != "panel"]
CONVOLUTIONAL = ("vgg_svhn", "vgg_cifar", "wide_resnet")
PUBLISHED = ("pretrained", "transfer")
LINEAR = [name for name in OF_PAPER if name not in CONVOLUTIONAL + PUBLISHED]


def trials(name: str, scale: Scale = Scale.paper) -> tuple[Trial, ...]:
    return registry.sweep(name).plan(scale).trials


@pytest.mark.parametrize("name", SWEEPS)
def test_a_file_opens_with_its_question_and_has_the_sweep_of_its_name(name: str):
    module = import_module(f"sweeps.robustness.{name}")
    first = (module.__doc__ or "").partition("\n")[0]
    assert "?" in first
    assert first.split()[0] in ("Do", "Does", "Is", "What")
    assert registry.SWEEPS[name] is module.SWEEP
    assert module.SWEEP.name == name


@pytest.mark.parametrize(
    ("name", "of_paper", "quick"),
    [
        ("input_dimension", (17, 85), (9, 27)),
        ("spheres", (9, 37), (8, 20)),
        ("clusters", (2, 2), (2, 2)),
        ("loss_scaling", (3, 3), (3, 3)),
        ("depth_batch_size", (624, 1872), (12, 36)),
        ("vgg_svhn", (10, 50), (2, 6)),
        ("pretrained", (11, 11), (2, 6)),
        ("transfer", (16, 16), (4, 12)),
        ("vgg_cifar", (12, 40), (6, 18)),
        ("wide_resnet", (2, 10), (2, 6)),
        ("panel", (6, 192), (5, 80)),
    ],
)
def test_how_many_trials_and_networks_there_are(name: str, of_paper: tuple[int, int], quick: tuple[int, int]):
    for scale, size in ((Scale.paper, of_paper), (Scale.quick, quick)):
        plan = registry.sweep(name).plan(scale)
        assert (len(plan.trials), plan.members) == size


@pytest.mark.parametrize(
    ("name", "identity", "settings"),
    [
        (
            "input_dimension",
            "975e74c97c6dc1fd",
            "dataset=mnist resize=28 corruption=none architecture=mlp norm_momentum=0 standardize=paper2019 "
            "optimizer=sgd momentum=0 lr=0.01 batch_size=128 epochs=50 eval_every=10 robustness=paper2019 "
            "seed=0,1,2,3,4",
        ),
        (
            "spheres",
            "6bce961e314479a0",
            "dataset=spheres corruption=none architecture=spheres_mlp norm_momentum=0 optimizer=sgd momentum=0 lr=0.01 "
            "batch_size=50 eval_every=10 robustness=paper2019 seed=0,1,2,3,4",
        ),
        (
            "spheres",
            "244214601eec10de",
            "dataset=spheres corruption=none architecture=deep_linear norm=none batch_size=32 epochs=0 activations=1 "
            "seed=3",
        ),
    ],
)
def test_an_experiment_keeps_its_identity(name: str, identity: str, settings: str):
    (trial,) = (trial for trial in trials(name) if trial.id == identity)
    assert str(trial) == settings


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("scale", Scale)
def test_the_papers_networks_are_of_linear_layers_on_clean_data_and_trained_by_sgd_without_momentum(name, scale):
    for trial in trials(name, scale):
        assert trial.k == 0
        assert NETWORKS[trial.architecture].widths is not None
        assert trial.epochs == 0 or (trial.optimizer, trial.momentum) == ("sgd", 0)
        assert trial.standardize == ("none" if trial.dataset == "spheres" else "paper2019")


@pytest.mark.parametrize("name", LINEAR)
def test_each_arm_has_a_partner_but_where_batch_norm_has_no_place_or_its_statistics_are_the_question(name):
    for scale in Scale:
        arms: dict[tuple[object, ...], set[str]] = {}
        for trial in trials(name, scale):
            rest = {k: v for k, v in trial.settings().items() if k not in ("norm", "norm_momentum", "norm_eps")}
            arms.setdefault(tuple(rest.items()), set()).add(trial.norm)
        alone = Counter(
            (dict(rest)["architecture"], dict(rest)["lr"]) for rest, norms in arms.items() if norms != {"batch", "none"}
        )
        assert {architecture for architecture, _ in alone} <= {"linear", "spheres_mlp"}
        assert [lr for architecture, lr in alone if architecture == "spheres_mlp"] == (
            [0.1] if (name, scale) == ("spheres", Scale.paper) else []
        )


def test_weight_decay_is_chosen_by_the_size_of_the_images_and_the_smallest_have_none():
    decays: dict[tuple[str, int], set[float]] = {}
    for trial in trials("input_dimension"):
        decays.setdefault((trial.architecture, trial.resize), set()).add(trial.weight_decay)
    enlarged = {56: {0.0, 0.01}, 84: {0.0, 0.0225}, 112: {0.0, 0.05}}
    assert decays == {
        **{("linear", side): enlarged.get(side, {0.0}) for side in (28, 56, 84, 112)},
        **{("mlp", side): enlarged.get(side, {0.0}) for side in (28, 56, 84)},
    }


def test_the_learning_rate_of_a_deep_network_is_that_of_a_sample_times_the_batch():
    assert {(trial.batch_size, trial.lr) for trial in trials("depth_batch_size")} == {
        (batch, float(f"{batch}e-5")) for batch in (5, 10, 15, 20, 40, 60, 80, 100, 120, 140, 160, 180, 200)
    }
    assert {trial.hidden_layers for trial in trials("depth_batch_size")} == set(range(5, 61, 5))
    assert {(trial.norm, trial.epochs) for trial in trials("depth_batch_size")} == {
        (norm, epochs) for norm in ("batch", "none") for epochs in (10, 40)
    }


def test_batch_norm_on_the_spheres_is_as_the_papers_and_as_a_control_with_torchs_statistics():
    trained = [trial for trial in trials("spheres") if trial.architecture == "spheres_mlp"]
    assert {(trial.norm_momentum, trial.lr) for trial in trained if trial.norm == "batch"} == {
        (momentum, lr) for momentum in (0.0, 0.1) for lr in (0.001, 0.01)
    }


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize("scale", Scale)
def test_convolutional_networks_are_trained_with_momentum_on_clean_data(name: str, scale: Scale):
    for trial in trials(name, scale):
        assert (trial.k, trial.momentum) == (0, 0.9)
        assert trial.suites[0] == "paper2019"
        wide = name == "wide_resnet"
        assert (trial.optimizer, trial.standardize, trial.lr_factor, trial.weight_decay) == (
            ("nesterov", "dataset", 0.2, 5e-4) if wide else ("sgd", "paper2019", 0.1, 0)
        )
        assert trial.norm in (("batch", "fixup") if wide else ("batch", "none"))


def test_vgg_on_svhn_is_of_five_depths_in_both_arms_and_its_rate_drops_twice():
    planned = trials("vgg_svhn")
    assert {(trial.architecture, trial.norm) for trial in planned} == {
        (f"vgg{depth}", norm) for depth in (8, 11, 13, 16, 19) for norm in ("batch", "none")
    }
    (setting,) = {
        (trial.dataset, trial.lr, trial.lr_drop, trial.epochs, trial.batch_size, trial.augmentation, trial.robustness)
        for trial in planned
    }
    assert setting == ("svhn", 0.01, "25+40", 50, 128, "none", "paper2019")


def test_table_2_selects_on_the_test_set_and_table_3_does_not_but_has_a_rate_by_arm():
    planned = trials("vgg_cifar")
    (of_table_2,) = {
        (trial.architecture, trial.lr, trial.lr_drop, trial.epochs, len(trial.seed))
        for trial in planned
        if trial.stopping == "best_test"
    }
    assert of_table_2 == ("vgg8", 0.01, "none", 150, 5)
    of_table_3 = [trial for trial in planned if trial.stopping == "none"]
    assert {(trial.norm, trial.lr, trial.lr_drop, trial.epochs, len(trial.seed)) for trial in of_table_3} == {
        ("batch", 0.1, "150+250", 350, 3),
        ("none", 0.01, "150+250", 350, 3),
    }
    assert len(of_table_3) == 10
    assert {(trial.dataset, trial.augmentation, trial.suites) for trial in planned} == {
        ("cifar10", "crops", ("paper2019", "corruptions"))
    }
    quick = trials("vgg_cifar", Scale.quick)
    assert {(trial.norm, trial.lr) for trial in quick if trial.lr_drop == "20+25"} == {
        (norm, lr) for norm in ("batch", "none") for lr in (0.01, 0.1)
    }


def test_only_table_2_is_selected_on_the_test_set():
    for name in SWEEPS:
        for scale in Scale:
            stopped = {trial.lr_drop for trial in trials(name, scale) if trial.stopping == "best_test"}
            assert stopped == ({"none"} if name == "vgg_cifar" else set())


def test_wide_residual_networks_are_trained_as_in_the_code_that_the_paper_names():
    (setting,) = {
        (trial.architecture, trial.lr, trial.lr_drop, trial.epochs, trial.batch_size, trial.augmentation)
        for trial in trials("wide_resnet")
    }
    assert setting == ("wrn28_10", 0.1, "60+120", 150, 128, "reflect_crops")


def test_the_panel_has_all_lenses_and_fixup_where_the_network_is_residual():
    for scale, norms in ((Scale.paper, {"fixup"}), (Scale.quick, set())):
        planned = trials("panel", scale)
        assert {trial.norm for trial in planned} == {"batch", "group", "instance", "layer", "none"} | norms
        assert {trial.suites for trial in planned} == {("pixel", "corruptions")}


@pytest.mark.parametrize("name", SWEEPS)
@pytest.mark.parametrize("scale", Scale)
def test_what_a_sweep_takes_is_known_before_it_is_run(name: str, scale: Scale):
    assert all((estimate.flops(trial) or 0) > 0 for trial in trials(name, scale))


@pytest.mark.parametrize("name", SWEEPS)
def test_a_quick_plan_can_be_run_as_far_as_can_be_checked_beforehand(name: str, tmp_path: Path):
    from study.run import check

    for trial in trials(name, Scale.quick):
        check(trial, tmp_path)


def test_published_networks_are_those_of_the_paper_and_are_measured_as_they_are():
    of_table_5 = {(trial.architecture.removeprefix("torchvision:"), trial.norm) for trial in trials("pretrained")}
    assert of_table_5 == {
        *((f"vgg{depth}", norm) for depth in (11, 13, 16, 19) for norm in ("batch", "none")),
        *(("alexnet", "none"), ("densenet121", "batch"), ("resnet18", "batch")),
    }
    for trial in (*trials("pretrained"), *trials("transfer")):
        assert (trial.dataset, trial.epochs, trial.attack_samples) == ("imagenet", 0, 2048)


@pytest.mark.parametrize(
    ("scale", "source", "targets"), [(Scale.paper, "torchvision:vgg11", 8), (Scale.quick, "lenet", 2)]
)
def test_each_target_is_shown_what_fools_a_source_with_batch_norm_and_one_without(scale, source, targets):
    shown: dict[tuple[str, str], set[str]] = {}
    for trial in trials("transfer", scale):
        shown.setdefault((trial.architecture, trial.norm), set()).add(trial.source)
    assert len(shown) == targets
    assert all(sources == {f"{source}/batch", f"{source}/none"} for sources in shown.values())
