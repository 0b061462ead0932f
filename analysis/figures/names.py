"""What settings, their levels and results are called in print: on the axes, in titles and in legends of figures."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from study.data.catalog import DATASETS
from study.networks.catalog import NETWORKS
from study.networks.published import PUBLISHED
from study.settings import format_value

NORM_NAMES = {
    "batch": "batch norm",
    "none": "no norm",
    "group": "group norm",
    "instance": "instance norm",
    "layer": "layer norm",
    "rms": "RMS norm",
    "fixup": "Fixup",
}
RESULT_NAMES = {
    "test_acc": "test accuracy",
    "mem_acc": "memorization accuracy",
    "clean_acc": "clean accuracy",
    "mia_auc": "membership AUC",
    "mem_loss": "loss, corrupted",
    "clean_loss": "loss, clean",
    "grad_norm_out": "gradient norm of S_out",
    "noise_acc": "accuracy under noise",
    "pgd_linf_acc": "accuracy under PGD linf",
    "pgd_l2_acc": "accuracy under PGD l2",
    "corruption_error": "error on corrupted images",
    "output_bits": "bits in the outputs",
    "weight_norm": "norm of the weights",
}
"""The names of results on axes."""
LEVEL_NAMES: Mapping[str, Mapping[Any, str]] = {
    "architecture": {
        **{name: network.printed for name, network in NETWORKS.items()},
        **{name: network.printed for name, network in PUBLISHED.items()},
    },
    "dataset": {name: dataset.printed for name, dataset in DATASETS.items()},
    "norm": NORM_NAMES,
    "result": RESULT_NAMES,
    "part": {**RESULT_NAMES, "log": "effect of alpha, log", "hinge": "effect of alpha, hinge"},
    "optimizer": {"adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop", "sgd": "SGD"},
    "corruption": {"label": "labels flipped", "ood": "images added", "natural": "natural outliers", "none": "clean"},
    "k_of": {"D": "k as a share of D", "S_in": "k as a share of S_in"},
    "regularizer": {"none": "no regularizer", "log": "log regularizer", "hinge": "hinge regularizer"},
    "stopping": {"none": "no early stopping", "best": "early stopping"},
    "protocol": {"full": "trained on all of D'", "splits": "trained on halves of D'"},
    "queries": {"image": "attacked by each image", "mirror": "attacked by each image and its mirror"},
    "subset": {0: "all samples"},
    "validation": {0.0: "no validation"},
    "weight_decay": {0.0: "no weight decay"},
    "label_smoothing": {0.0: "no label smoothing"},
    "ood": {"none": "the usual other dataset"},
}
"""The names in print of the levels of a column, in the order in which figures show them."""
SETTING_NAMES = {
    "k": "corrupted fraction k",
    "lr": "learning rate",
    "eval_every": "epochs between evaluations",
    "one_minus_alpha": "1 − alpha",
}
"""The names in print of the settings whose own name is no plain word."""
LEVEL_FORMS: Mapping[str, Callable[[Any], str]] = {
    "k": lambda level: f"k = {percent(level)}",
    "alpha": lambda level: f"alpha = {format_value(level)}",
    "ood": lambda level: f"images of {DATASETS[level].printed if level in DATASETS else level}",
    "subset": lambda level: f"{level:,} samples",
    "validation": lambda level: f"{percent(level)} for validation",
    "epochs": lambda level: f"{level} epoch{'s' * (level != 1)}",
    "models": lambda level: f"{level} models",
    "eval_every": lambda level: f"evaluated every {'epoch' if level == 1 else f'{level} epochs'}",
}
"""How the other levels of a setting are told, where `learning rate 0.001` would not be the way."""
NAMES_ALONE = ("architecture", "dataset", "norm", "result", "part", "mixture", "optimizer", "precision")
"""The columns whose levels say by themselves what they are of."""


def display_setting(name: str) -> str:
    """Return a setting as an axis names it, such as `learning rate`."""
    return SETTING_NAMES.get(name, name.replace("_", " "))


def display_level(name: str, value: Any) -> str:
    """Return a level as a reader knows it, such as `LeNet`, `k = 5%`, `SGD` or `learning rate 0.001`."""
    known = LEVEL_NAMES.get(name, {})
    if value in known:
        return known[value]
    if name in NAMES_ALONE:
        return str(value)
    if name in LEVEL_FORMS:
        return LEVEL_FORMS[name](value)
    return f"{display_setting(name)} {format_value(value)}"


def display_levels(levels: Mapping[Any, Any], names: Iterable[str]) -> str:
    """Return the levels of some settings in words, such as `LeNet on MNIST, k = 5%, learning rate 0.001`.

    Args:
        levels: the level of each setting.
        names: the settings that are named; the network and the dataset come first.
    """
    return ", ".join(part for part in display_lines(levels, names) if part)


def display_lines(levels: Mapping[Any, Any], names: Iterable[str]) -> tuple[str, str]:
    """Return `display_levels` in two parts: the network and the dataset, and the rest; either may be empty."""
    chosen = list(names)
    where = [display_level(name, levels[name]) for name in ("architecture", "dataset") if name in chosen]
    rest = [display_level(name, levels[name]) for name in chosen if name not in ("architecture", "dataset")]
    return " on ".join(where), ", ".join(rest)


def display_attack(name: str) -> str:
    """Return an attack's name in words, such as `LiRA online`."""
    return name.replace("_", " ").replace("lira", "LiRA").replace("rmia", "RMIA")


def ordered_levels(name: str, values: Iterable[Any]) -> list[Any]:
    """Return the distinct levels of a setting in the paper's order, or sorted where the paper has none."""
    return sorted(set(values), key=lambda value: display_rank(name, value))


def display_rank(name: str, value: Any) -> tuple[int, Any]:
    """Return the sort key of a level among the others of its setting."""
    known: Sequence[Any] = list(LEVEL_NAMES.get(name, ()))
    return (known.index(value), "") if value in known else (len(known), value)


def percent(share: float, digits: int | None = None) -> str:
    """Return a share in percent, with `digits` digits after the point, or with as few as it takes."""
    return f"{share * 100:.10g}%" if digits is None else f"{share * 100:.{digits}f}%"
