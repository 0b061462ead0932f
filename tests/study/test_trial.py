import hashlib
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.errors import BadInputError
from study.networks.catalog import NETWORKS, NORMS, TOKEN_NORMS
from study.settings import DEFAULTS, SETTINGS, format_value, names_where
from study.trial import Trial, parse

PINNED = [
    ({}, "b3dd387b2e7b4f49", "b3dd387b2e7b4f49"),
    ({"k": 0.1}, "6fa749a32082ac52", "6fa749a32082ac52"),
    ({"k": 0.1, "norm": "none"}, "11aae65897d65b82", "11aae65897d65b82"),
    ({"dataset": "mnist", "k": 0.3, "seed": (0, 1, 2, 3, 4)}, "9caec3c3595e91f9", "6d4cf5209ae94b32"),
    (
        {"dataset": "cifar10", "norm": "group", "optimizer": "sgd", "lr": 0.01, "weight_decay": 5e-4},
        "c4db160108046a25",
        "c4db160108046a25",
    ),
    ({"k": 0.1, "regularizer": "hinge", "alpha": 0.9}, "e9b231da5a97ed02", "e9b231da5a97ed02"),
    (
        {"k": 0.1, "regularizer": "log", "alpha": 0.5, "batch_size": 64, "epochs": 2, "eval_every": 2},
        "893cee61e3c0d051",
        "893cee61e3c0d051",
    ),
    ({"norm": "layer", "lr": 1e-5, "seed": (7,)}, "a85444671b1a9b12", "51fee59b8bfe18ab"),
]

# Two trials for each field that differ in it; k decides corruption and alpha the regularizer.
CHANGES = {
    "dataset": ({}, {"dataset": "mnist"}),
    "corruption": ({"corruption": "none"}, {"corruption": "label", "k": 0.1}),
    "k": ({"k": 0.1}, {"k": 0.2}),
    "ood": ({"corruption": "ood", "k": 0.1}, {"corruption": "ood", "k": 0.1, "ood": "mnist"}),
    "subset": ({}, {"subset": 500}),
    "resize": ({}, {"resize": 56}),
    "validation": ({}, {"validation": 0.1}),
    "k_of": ({"k": 0.1}, {"k": 0.1, "k_of": "S_in"}),
    "flip_to": ({"k": 0.1}, {"k": 0.1, "flip_to": "any"}),
    "ood_labels": ({"k": 0.1, "corruption": "ood"}, {"k": 0.1, "corruption": "ood", "ood_labels": "each"}),
    "architecture": ({}, {"architecture": "vgg8"}),
    "norm": ({}, {"norm": "none"}),
    "hidden_layers": (
        {"architecture": "deep_mlp", "hidden_layers": 2},
        {"architecture": "deep_mlp", "hidden_layers": 3},
    ),
    "norm_eps": ({}, {"norm_eps": 1e-3}),
    "norm_momentum": ({}, {"norm_momentum": 0}),
    "standardize": ({}, {"standardize": "dataset"}),
    "regularizer": ({"regularizer": "log", "alpha": 0.5}, {"regularizer": "hinge", "alpha": 0.5}),
    "alpha": ({"regularizer": "log", "alpha": 0.5}, {"regularizer": "log", "alpha": 0.25}),
    "label_smoothing": ({}, {"label_smoothing": 0.1}),
    "optimizer": ({}, {"optimizer": "sgd"}),
    "momentum": ({"optimizer": "sgd"}, {"optimizer": "sgd", "momentum": 0}),
    "lr_drop": ({}, {"lr_drop": "100+150"}),
    "lr_factor": ({"lr_drop": "100"}, {"lr_drop": "100", "lr_factor": 0.2}),
    "augmentation": ({}, {"augmentation": "crops"}),
    "lr": ({}, {"lr": 1e-3}),
    "weight_decay": ({}, {"weight_decay": 1e-4}),
    "batch_size": ({}, {"batch_size": 128}),
    "epochs": ({}, {"epochs": 100}),
    "eval_every": ({}, {"eval_every": 10}),
    "stopping": ({"validation": 0.1}, {"validation": 0.1, "stopping": "best"}),
    "samples": ({}, {"samples": "scores"}),
    "weights": ({}, {"weights": "final"}),
    "precision": ({}, {"precision": "bf16"}),
    "deterministic": ({}, {"deterministic": "on"}),
    "mechanism": ({}, {"mechanism": 10}),
    "activations": ({}, {"activations": 3}),
    "robustness": ({}, {"robustness": "pixel"}),
    "attack_samples": ({"robustness": "pixel"}, {"robustness": "pixel", "attack_samples": 256}),
    "source": (
        {"robustness": "transfer", "source": "lenet/batch"},
        {"robustness": "transfer", "source": "lenet/none"},
    ),
    "queries": ({"protocol": "splits"}, {"protocol": "splits", "queries": "mirror"}),
    "protocol": ({}, {"protocol": "splits"}),
    "models": ({"protocol": "splits"}, {"protocol": "splits", "models": 16}),
    "seed": ({}, {"seed": (0, 1)}),
}
ONE_CHOICE = names_where(lambda setting: len(setting.choices) == 1)


def refusal(**settings: object) -> str:
    with pytest.raises(BadInputError) as caught:
        Trial.of(settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(("settings", "trial_id", "cell"), PINNED)
def test_ids_and_cells_are_what_they_have_always_been(settings, trial_id, cell):
    assert (Trial(**settings).id, Trial(**settings).cell) == (trial_id, cell)


def test_an_id_is_a_digest_of_the_fields_that_are_not_at_their_default():
    # Written out by hand: a field that is added later with a default can't get into this text, nor change the id.
    canonical = '{"k":"0.1","norm":"none","seed":[1,2]}'
    assert Trial(k=0.1, norm="none", seed=(2, 1)).id == hashlib.sha256(canonical.encode()).hexdigest()[:16]
    canonical = '{"k":"0.1","norm":"none"}'
    assert Trial(k=0.1, norm="none", seed=(2, 1)).cell == hashlib.sha256(canonical.encode()).hexdigest()[:16]


def test_naming_a_default_changes_no_id():
    bare = Trial(k=0.1)
    assert Trial(**{**DEFAULTS, "k": 0.1}).id == bare.id
    for name, default in DEFAULTS.items():
        assert Trial(**{"k": 0.1, name: default if name != "k" else 0.1}).id == bare.id


def test_the_order_of_fields_and_of_seeds_changes_no_id():
    settings = {"norm": "none", "k": 0.1, "seed": (3, 1, 2)}
    backwards = dict(reversed(settings.items()))
    assert Trial.of(settings).id == Trial.of(backwards).id == Trial.of({**settings, "seed": [1, 2, 3]}).id


@pytest.mark.parametrize("spelling", [0.1, "0.1", "0.10", "1e-1", ".1", "10e-2", "+0.1"])
def test_the_spelling_of_a_number_changes_no_id(spelling):
    assert Trial(k=spelling) == Trial(k=0.1)
    assert Trial(k=spelling).id == "6fa749a32082ac52"


@given(st.floats(min_value=1e-12, max_value=1e12))
def test_a_number_read_back_from_its_text_is_the_same_trial(lr):
    trial = Trial(lr=lr)
    assert "e" not in format_value(trial.lr)
    assert Trial(lr=format_value(trial.lr)).id == Trial(lr=repr(lr)).id == trial.id


def test_every_field_that_has_two_values_is_tried_below():
    assert {*CHANGES, *ONE_CHOICE} == set(SETTINGS)


@pytest.mark.parametrize("name", CHANGES)
def test_every_scientific_field_changes_the_id(name):
    one, other = (Trial(**settings) for settings in CHANGES[name])
    assert getattr(one, name) != getattr(other, name)
    assert one.id != other.id
    assert (one.cell != other.cell) == (name != "seed")


def test_different_cells_have_different_ids():
    trials = [
        Trial(k=k, norm=norm, lr=lr, seed=seed)
        for k in (0.0, 0.1, 0.11)
        for norm in NORMS
        for lr in (1e-4, 1e-3)
        for seed in ((0,), (1,), (0, 1), (10,))
    ]
    assert len({trial.id for trial in trials}) == len(trials)
    assert len({trial.cell for trial in trials}) == len(trials) / 4


def test_no_corruption_has_one_spelling():
    assert Trial(k=0, corruption="label") == Trial(k=0.0, corruption="none") == Trial()
    assert Trial(k=0, corruption="label").id == Trial(k="0", corruption="none").id
    assert Trial(k=0).corruption == "none"
    assert Trial(k=-0.0).id == Trial().id


def test_no_regularizer_has_one_spelling():
    assert Trial(alpha=1, regularizer="log").id == Trial(alpha=1.0, regularizer="none").id == Trial().id
    assert Trial(alpha=1, regularizer="hinge", norm="none").regularizer == "none"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"norm": "bach"}, "did you mean 'batch'?"),
        ({"norm": "Batch"}, "did you mean 'batch'?"),
        ({"dataset": "fashion-mnist"}, "did you mean 'fashion_mnist'?"),
        ({"dataset": "parket:DIR"}, "did you mean 'parquet:DIR'?"),
        ({"optimizer": "adm"}, "did you mean 'adam'?"),
        ({"regularizer": "hing"}, "did you mean 'hinge'?"),
        ({"corruption": "labels"}, "did you mean 'label'?"),
        ({"architecture": "lenett"}, "did you mean 'lenet'?"),
        ({"protocol": "ful"}, "did you mean 'full'?"),
        ({"learning_rate": 1}, "unknown setting 'learning_rate'"),
        ({"nrom": "none"}, "did you mean 'norm'?"),
        ({"norm": "xyzzy"}, "choose from batch, fixup, group, instance, layer, none, rms."),
        ({"norm": "no\nne"}, r"'no\nne'"),
    ],
)
def test_a_name_that_does_not_exist_gets_the_nearest_that_does(settings, said):
    assert said in refusal(**settings)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("k", "lots", "a number"),
        ("k", None, "a number"),
        ("k", True, "a number"),
        ("k", float("nan"), "a number"),
        ("k", float("inf"), "a number"),
        ("k", "nan", "a number"),
        pytest.param("lr", 10**400, "a number", id="lr-huge"),
        ("lr", "1e-4x", "a number"),
        ("epochs", 1.5, "a whole number"),
        ("epochs", "2.0", "a whole number"),
        ("epochs", True, "a whole number"),
        ("epochs", float("inf"), "a whole number"),
        ("epochs", "", "a whole number"),
        ("norm", 3, "text"),
        ("dataset", None, "text"),
        ("seed", 0.5, "whole numbers"),
        ("seed", (0.5,), "whole numbers"),
        ("seed", (True,), "whole numbers"),
        ("seed", "one", "whole numbers"),
        ("seed", None, "whole numbers"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(name, value, wanted):
    message = refusal(**{name: value})
    assert message.startswith(f"{name} ")
    assert wanted in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("k", 1),
        ("k", 1.5),
        ("k", -0.1),
        ("alpha", 0),
        ("alpha", 1.01),
        ("alpha", -1),
        ("validation", 1),
        ("validation", -0.1),
        ("label_smoothing", 1),
        ("label_smoothing", -0.1),
        ("lr", 0),
        ("lr", -1e-4),
        ("weight_decay", -1e-9),
        ("batch_size", 1),
        ("epochs", -1),
        ("eval_every", 0),
        ("seed", ()),
        ("seed", (0, 0)),
        ("seed", (-1,)),
    ],
)
def test_a_value_out_of_range_is_refused_by_name_with_the_range(name, value):
    assert refusal(**{name: value}).startswith(f"{name} must be ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 2**31),
        ("epochs", 2**31),
        ("eval_every", 2**31),
        ("seed", 2**63),
        pytest.param("seed", 10**400, id="seed-huge"),
    ],
)
def test_a_number_that_the_record_has_no_room_for_is_refused_before_anything_is_trained(name, value):
    assert refusal(**{name: value}).startswith(f"{name} ")


@pytest.mark.parametrize(
    "settings",
    [
        {"k": 0.1, "corruption": "none"},
        {"alpha": 0.5},
        {"alpha": 0.5, "regularizer": "log", "norm": "none"},
        {"alpha": 0.5, "regularizer": "hinge", "norm": "group"},
        {"stopping": "best"},
    ],
)
def test_settings_at_odds_with_each_other_are_refused(settings):
    refusal(**settings)


@pytest.mark.parametrize("folder", ["parquet:~there-is-no-such-user/data", "imagefolder:~there-is-no-such-user"])
def test_the_folder_of_a_user_who_does_not_exist_is_refused(folder):
    refusal(dataset=folder)


def test_values_take_the_type_of_their_field():
    trial = Trial(k="0.1", epochs="20", batch_size=64.0, weight_decay=0, seed="3")
    assert (trial.k, trial.epochs, trial.batch_size, trial.weight_decay, trial.seed) == (0.1, 20, 64, 0.0, (3,))
    assert [type(value) for value in (trial.epochs, trial.batch_size, trial.weight_decay)] == [int, int, float]


def test_a_trial_comes_back_from_its_settings_by_way_of_json_or_pickle():
    trial = Trial(k=0.3, norm="none", seed=(4, 2))
    assert Trial.of(json.loads(json.dumps(trial.settings()))) == trial
    assert pickle.loads(pickle.dumps(trial)).id == trial.id


def test_a_trial_prints_as_its_user_would_type_it():
    trial = Trial(k=0.1, norm="none", lr=1e-5, seed=(2, 0))
    assert str(trial) == "k=0.1 norm=none lr=0.00001 seed=0,2"
    found = parse(str(trial).split())
    assert Trial.of({name: tuple(v) if name == "seed" else v[0] for name, v in found.items()}) == trial


def test_assignments_are_read_as_the_types_of_their_fields():
    assert parse(["k=0,1e-1", "norm=none,batch", "seed=2,0", "epochs=3"]) == {
        "k": [0.0, 0.1],
        "norm": ["none", "batch"],
        "seed": [2, 0],
        "epochs": [3],
    }
    assert parse([]) == {}


def test_a_value_may_itself_hold_an_equals_sign():
    assert parse(["dataset=parquet:/data/a=b"]) == {"dataset": ["parquet:/data/a=b"]}


@pytest.mark.parametrize(
    ("assignments", "said"),
    [
        (["k"], "'k' is not of the form KEY=VALUE."),
        (["k="], "'k=' is not of the form KEY=VALUE."),
        (["=0.1"], "unknown setting ''"),
        (["nom=none"], "did you mean 'norm'?"),
        (["k=0.1", "k=0.2"], "k is set twice."),
        (["k=0.1,"], "k takes a number, not ''."),
        (["epochs=1.5"], "epochs takes a whole number, not '1.5'."),
        (["seed=0,x"], "seed takes whole numbers, not 'x'."),
        pytest.param(["seed=" + "1" * 400], "seed", id="seed-huge"),
    ],
)
def test_assignments_that_can_not_be_read_are_refused(assignments, said):
    with pytest.raises(BadInputError) as caught:
        parse(assignments)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"optimizer": "nesterov", "momentum": 0}, "optimizer=nesterov needs a momentum above 0"),
        ({"architecture": "deep_mlp"}, "name it with hidden_layers=10."),
        ({"architecture": "linear"}, "architecture=linear has no place for norm=batch: use norm=none."),
        ({"lr_drop": "200"}, "lr_drop=200 drops after the last epoch: training has 200."),
        ({"lr_drop": "50+20"}, "unknown lr_drop '50+20': choose from EPOCH+EPOCH..., none."),
        ({"lr_drop": "0"}, "unknown lr_drop '0'"),
        ({"lr_drop": "1e2"}, "unknown lr_drop '1e2'"),
        ({"epochs": 0, "stopping": "best_test"}, "stopping=best_test needs epochs to choose from"),
        ({"robustness": "pixl"}, "did you mean 'pixel'?"),
        ({"robustness": "pixel+pixel"}, "unknown robustness 'pixel+pixel'"),
        ({"attack_samples": -1}, "attack_samples must be 0 or more"),
    ],
)
def test_what_the_second_papers_settings_can_not_be_is_refused(settings, said):
    assert said in refusal(**settings)


def test_what_means_nothing_has_one_spelling():
    for spelled in ({"momentum": 0.5}, {"lr_factor": 0.5}, {"hidden_layers": 4}, {"attack_samples": 100}):
        assert Trial(**spelled).id == Trial().id
    assert Trial(norm="none", norm_eps=1e-3, norm_momentum=0).id == Trial(norm="none").id
    assert Trial(robustness="paper2019+pixel").id == Trial(robustness="pixel+paper2019").id


def test_drops_and_suites_are_numbers_and_names():
    assert Trial(lr_drop="150+160").drops == (150, 160)
    assert Trial().drops == Trial().suites == ()
    assert Trial(robustness="paper2019+pixel").suites == ("pixel", "paper2019")


@pytest.mark.parametrize("architecture", ["nets:build", "my_nets.v2.small:Net", "resnet18:build"])
def test_a_network_of_the_users_is_known_by_its_module_and_factory(architecture):
    trial = Trial(architecture=architecture)
    assert trial.settings()["architecture"] == architecture
    assert trial.id != Trial().id


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ("resnet8", "did you mean 'resnet18'?"),
        ("ResNet50", "did you mean 'resnet50'?"),
        ("densenet", "did you mean 'densenet121'?"),
        ("vgg-16", "did you mean 'vgg16'?"),
        ("xyzzy:", "choose from MODULE:FACTORY, deep_linear, "),
        ("my nets:build", "choose from MODULE:FACTORY, deep_linear, "),
    ],
)
def test_an_unknown_network_gets_the_nearest_or_the_form_of_the_users_own(architecture, said):
    assert said in refusal(architecture=architecture)


@pytest.mark.parametrize("architecture", [name for name, row in NETWORKS.items() if row.built_with == "layer"])
def test_a_transformer_takes_the_norms_of_tokens_alone(architecture):
    for norm in NORMS:
        if norm in TOKEN_NORMS:
            assert Trial(architecture=architecture, norm=norm).norm == norm
        else:
            said = f"architecture={architecture} is built with layer norm over tokens, which have no pixels for norm="
            assert refusal(architecture=architecture, norm=norm) == f"{said}{norm}: use norm=layer, none or rms."


def test_whole_numbers_may_be_ranges_and_other_values_are_left_as_they_are():
    assert parse(["seed=0..2,7", "epochs=3..3"]) == {"seed": [0, 1, 2, 7], "epochs": [3]}
    assert parse(["dataset=parquet:data/1..2"]) == {"dataset": ["parquet:data/1..2"]}


@pytest.mark.parametrize("part", ["2..1", "0..10000"])
def test_a_range_that_is_none_gets_a_sentence(part: str):
    with pytest.raises(BadInputError, match=f"seed={part} is no range"):
        parse([f"seed={part}"])
