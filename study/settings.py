"""The settings of a trial: each is stated once, here.

A line of `Settings` says all that there is to say of a setting: its name, type and default, the values that it takes,
what it means, and the stage of a trial that it acts in. From these lines come the fields and the checks of `Trial`, the
columns of the record, the parser of `KEY=VALUE`, `python -m study settings`, and the lists of what a pack shares, what
decides speed and what bundled trials may differ in. The defaults are those of the paper's Appendix D.
"""

import math
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from functools import lru_cache
from typing import Any, get_type_hints

from study.data.catalog import DATASETS
from study.errors import BadInputError
from study.joined import SUITES
from study.networks.catalog import NETWORKS, RESIDUAL_NORMS
from study.networks.published import PUBLISHED
from study.setting import Setting, Stage, setting

Value = str | int | float | tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a trial; `python -m study settings` prints what each means."""

    dataset: str = setting(
        "digits",
        Stage.DATA,
        "The dataset D: a built-in one, or a folder.",
        choices=DATASETS,
        form="folder",
        decides_speed=True,
        decides_duration=True,
    )
    subset: int = setting(
        0,
        Stage.DATA,
        "How many samples of the training set D keeps, drawn by class and the same for all seeds; 0 keeps all.",
        unit="samples",
        within="[0, inf)",
        decides_speed=True,
        decides_duration=True,
    )
    validation: float = setting(
        0.0,
        Stage.DATA,
        "The share of the training set that is set aside for validation, drawn by class and the same for all seeds and "
        "arms; it is never corrupted and never trained on. D is what is left.",
        unit="fraction",
        within="[0, 1)",
        decides_duration=True,
    )
    resize: int = setting(
        0,
        Stage.DATA,
        "The height and width to which the images are enlarged by repeating pixels, a multiple of their own; 0 leaves "
        "them.",
        unit="pixels",
        within="[0, 1024]",
        decides_speed=True,
        decides_duration=True,
    )
    corruption: str = setting(
        "label",
        Stage.CORRUPTION,
        "How D becomes D': label flips labels (Algorithm 1 of the paper), ood adds images of another dataset "
        "(Algorithm 2), natural changes nothing and takes the most atypical samples as S_out; "
        "none exactly when k is 0.",
        choices=("none", "label", "ood", "natural"),
        only_where=("k", lambda k: k > 0),
    )
    k: float = setting(
        0.0,
        Stage.CORRUPTION,
        "The size of S_out over that of D.",
        unit="fraction",
        within="[0, 1)",
        per_member=True,
    )
    ood: str = setting(
        "none",
        Stage.CORRUPTION,
        "The other dataset D* of corruption=ood; none stands for the dataset's usual one.",
        choices=("none", "photos", *(name for name, info in DATASETS.items() if info.train)),
        form="folder",
        only_where=("corruption", lambda corruption: corruption == "ood"),
    )
    k_of: str = setting(
        "D",
        Stage.CORRUPTION,
        "What k is a share of: D, as in Algorithms 1 and 2 of the paper; or S_in, as in its prose, so that S_out has k "
        "times the samples of S_in. Of added images both are the same, for S_in is D.",
        choices=("D", "S_in"),
        only_where=("corruption", lambda corruption: corruption in ("label", "natural")),
        elsewhere="D",
    )
    flip_to: str = setting(
        "other",
        Stage.CORRUPTION,
        "What a flipped label is drawn from: the other classes, as in Algorithm 1 of the paper; or any class, as in "
        "its prose, where a sample that happens to keep its own is in S_in.",
        choices=("other", "any"),
        only_where=("corruption", lambda corruption: corruption == "label"),
        elsewhere="other",
    )
    ood_labels: str = setting(
        "one",
        Stage.CORRUPTION,
        "The labels of added images: one class for all of them, as in Algorithm 2 of the paper, or one of its own for "
        "each.",
        choices=("one", "each"),
        only_where=("corruption", lambda corruption: corruption == "ood"),
        elsewhere="one",
    )
    architecture: str = setting(
        "lenet",
        Stage.NETWORK,
        "The network: a built-in one, one that torchvision publishes trained, for dataset=imagenet, or one of the "
        "user's. That one is known by its name alone: a network that has changed is another experiment only under "
        "another name.",
        choices=ChainMap(PUBLISHED, NETWORKS),
        form="factory",
        decides_speed=True,
        decides_duration=True,
    )
    norm: str = setting(
        "batch",
        Stage.NETWORK,
        "The normalization layers that the network is given; with fixup a residual network trains without any.",
        choices=RESIDUAL_NORMS,
        decides_speed=True,
        decides_duration=True,
    )
    hidden_layers: int = setting(
        0,
        Stage.NETWORK,
        "How many hidden layers a deep_mlp has; 0 for any other network.",
        unit="layers",
        within="[0, 1000]",
        decides_speed=True,
        decides_duration=True,
        only_where=("architecture", lambda architecture: architecture == "deep_mlp"),
        elsewhere=0,
    )
    norm_eps: float = setting(
        1e-5,
        Stage.NETWORK,
        "What the norms add to the variance that they divide by; 0.00001, the default, leaves each as its network has "
        "it, which is mostly that.",
        within="(0, inf)",
        only_where=("norm", lambda norm: norm != "none"),
        elsewhere=1e-5,
    )
    norm_momentum: float = setting(
        0.1,
        Stage.NETWORK,
        "The weight of a batch in batch norm's running statistics; 0 takes the mean over all batches of training. 0.1, "
        "the default, leaves each norm as its network has it, which is mostly that.",
        unit="fraction",
        within="[0, 1)",
        only_where=("norm", lambda norm: norm == "batch"),
        elsewhere=0.1,
    )
    standardize: str = setting(
        "none",
        Stage.NETWORK,
        "By which mean and spread of each channel the network standardizes an image before its first layer: none; "
        "dataset takes those of D, paper2019 the constants that Galloway et al. (2019) used for the dataset, and "
        "paper2019_cifar10 those for CIFAR-10, for its images in a folder.",
        choices=("none", "dataset", "paper2019", "paper2019_cifar10"),
        decides_speed=True,
    )
    regularizer: str = setting(
        "none",
        Stage.TRAINING,
        "The penalty on gamma/sigma (Eq. 12 of the paper); none exactly when alpha is 1.",
        choices=("none", "log", "hinge"),
        decides_speed=True,
        only_where=("alpha", lambda alpha: alpha < 1),
    )
    alpha: float = setting(
        1.0,
        Stage.TRAINING,
        "The weight of the cross-entropy against the regularizer.",
        unit="fraction",
        within="(0, 1]",
        per_member=True,
    )
    label_smoothing: float = setting(
        0.0,
        Stage.TRAINING,
        "The share of each label that the training loss spreads evenly over all classes, as the cross-entropy of torch "
        "does; no measurement has it.",
        unit="fraction",
        within="[0, 1)",
    )
    optimizer: str = setting(
        "adam",
        Stage.TRAINING,
        "The optimizer; nesterov is sgd with Nesterov's momentum.",
        choices=("adam", "adamw", "sgd", "nesterov", "rmsprop"),
        decides_speed=True,
    )
    momentum: float = setting(
        0.9,
        Stage.TRAINING,
        "The momentum of sgd and of nesterov.",
        unit="fraction",
        within="[0, 1)",
        decides_speed=True,
        only_where=("optimizer", lambda optimizer: optimizer in ("sgd", "nesterov")),
        elsewhere=0.9,
    )
    lr: float = setting(
        1e-4,
        Stage.TRAINING,
        "The learning rate: over all of training, or before the first drop.",
        within="(0, inf)",
        per_member=True,
    )
    lr_drop: str = setting(
        "none",
        Stage.TRAINING,
        "After which epochs the learning rate drops, as in 150+250; none keeps it.",
        choices=("none",),
        form="epochs",
    )
    lr_factor: float = setting(
        0.1,
        Stage.TRAINING,
        "By what the learning rate is multiplied at each drop.",
        unit="fraction",
        within="(0, 1)",
        only_where=("lr_drop", lambda drop: drop != "none"),
        elsewhere=0.1,
    )
    augmentation: str = setting(
        "none",
        Stage.TRAINING,
        "How an image is changed each time that it is trained on: not at all, or crops shifts it by up to four pixels "
        "with zeros where it ends and mirrors every other one; reflect_crops continues it by its reflection instead. "
        "It is drawn for each seed, epoch and sample, alike in all arms.",
        choices=("none", "crops", "reflect_crops"),
        decides_speed=True,
        decides_duration=True,
    )
    weight_decay: float = setting(
        0.0,
        Stage.TRAINING,
        "The weight decay, as the optimizer of torch defines it.",
        within="[0, inf)",
        per_member=True,
    )
    batch_size: int = setting(
        256,
        Stage.TRAINING,
        "Samples per step, at least two, for batch norm has no variance over one; the last batch of an epoch may be "
        "smaller.",
        unit="samples",
        within="[2, inf)",
        decides_speed=True,
        decides_duration=True,
    )
    epochs: int = setting(
        200,
        Stage.TRAINING,
        "Passes over D'; with 0 the network is measured as it is built.",
        unit="epochs",
        within="[0, inf)",
    )
    eval_every: int = setting(
        1,
        Stage.MEASUREMENT,
        "Epochs between two points of the curves; the last epoch always has one.",
        unit="epochs",
        within="[1, inf)",
    )
    stopping: str = setting(
        "none",
        Stage.MEASUREMENT,
        "The epoch at which a network is measured: none is the last; best (early stopping) the evaluated one of the "
        "highest validation accuracy, the first of equals, though all epochs are trained; converged the first at which "
        "the loss on D' has been at most 0.001 at three evaluated epochs in a row, where training ends, or else the "
        "last; best_test is best by the test set, as some papers do, which flatters the network.",
        choices=("none", "best", "converged", "best_test"),
        decides_duration=True,
    )
    precision: str = setting(
        "fp32",
        Stage.TRAINING,
        "The arithmetic of training: fp32; tf32, the shorter products of a GPU; or bf16, the automatic mixed precision "
        "of torch. Measurements are in float32.",
        choices=("fp32", "tf32", "bf16"),
        decides_speed=True,
        decides_duration=True,
    )
    deterministic: str = setting(
        "off",
        Stage.TRAINING,
        "Whether a GPU is held to algorithms that give the same digits whenever a run is made again or resumed: off "
        "takes the usual ones, which may not; on is slower, and fails where torch has none that do. A CPU repeats its "
        "digits anyway.",
        choices=("off", "on"),
        decides_speed=True,
        decides_duration=True,
    )
    samples: str = setting(
        "none",
        Stage.MEASUREMENT,
        "What is recorded of each sample of D': scores, gradients for gradient norms as well, or none.",
        choices=("none", "scores", "gradients"),
    )
    mechanism: int = setting(
        0,
        Stage.MEASUREMENT,
        "At how many epochs, 0 among them and then in geometric steps to the last, margins and gradients are recorded "
        "of some samples, and how S_out and S_in pull at gamma; 0 records none.",
        unit="epochs",
        within="[0, inf)",
        decides_duration=True,
    )
    activations: int = setting(
        0,
        Stage.MEASUREMENT,
        "At how many epochs, 0 among them and then in geometric steps to the last, it is recorded where the layers put "
        "the samples of two batches; 0 records none.",
        unit="epochs",
        within="[0, inf)",
        decides_duration=True,
    )
    robustness: str = setting(
        "none",
        Stage.MEASUREMENT,
        "The suites of noise and attacks by which robustness is measured, joined by +: pixel attacks images in [0, 1], "
        "as is usual today; paper2019 attacks as Galloway et al. (2019) did; transfer shows images that fool the "
        "network of source; corruptions shows them in noise, blur and fog, as CIFAR-10-C does; none measures nothing.",
        choices=("none", *SUITES),
        form="suites",
        decides_duration=True,
    )
    attack_samples: int = setting(
        0,
        Stage.MEASUREMENT,
        "How many test images are attacked, drawn by class and the same for all seeds and arms; 0 attacks all, of "
        "imagenet 2048.",
        unit="samples",
        within="[0, inf)",
        decides_duration=True,
        only_where=("robustness", lambda suites: suites != "none"),
        elsewhere=0,
    )
    source: str = setting(
        "none",
        Stage.MEASUREMENT,
        "The network that is attacked in place of this one with robustness=transfer, and its norm, as in vgg11/batch. "
        "It is trained as this one is, from a seed of its own.",
        choices=("none",),
        form="source",
        decides_duration=True,
        only_where=("robustness", lambda suites: "transfer" in suites.split("+")),
    )
    queries: str = setting(
        "image",
        Stage.MEASUREMENT,
        "What a membership attacker shows to a model: each image, or its mirror image as well.",
        choices=("image", "mirror"),
    )
    weights: str = setting(
        "none",
        Stage.MEASUREMENT,
        "What is kept of each trained network beside its records: none, or with final the weights with which it is "
        "measured, as a safetensors file.",
        choices=("none", "final"),
    )
    protocol: str = setting(
        "full",
        Stage.MEMBERS,
        "full trains one member per seed, on all of D'; splits trains several per seed, each on a half of the one D' "
        "of that seed, so that every sample is in the training sets of exactly half of them.",
        choices=("full", "splits"),
        decides_duration=True,
    )
    models: int = setting(
        1,
        Stage.MEMBERS,
        "How many members protocol=splits has for each seed: an even number, 6 or more, and 32 where none is named; 1 "
        "exactly when the protocol is full.",
        unit="models",
        within="[1, 32768)",
    )
    seed: tuple[int, ...] = setting(
        (0,),
        Stage.MEMBERS,
        "The seeds, kept in ascending order.",
        within="[0, inf)",
        per_member=True,
    )


def _by_name() -> dict[str, Setting]:
    types = get_type_hints(Settings)
    return {of.name: Setting(of.name, types[of.name], of.default, **of.metadata) for of in fields(Settings)}


SETTINGS: Mapping[str, Setting] = _by_name()
"""Every setting by name, in the order of the record's columns."""
DEFAULTS: Mapping[str, Any] = {name: stated.default for name, stated in SETTINGS.items()}


def names_where(condition: Callable[[Setting], bool]) -> tuple[str, ...]:
    """Return the names of the settings that meet a condition, in the order in which they are stated."""
    return tuple(name for name, stated in SETTINGS.items() if condition(stated))


FOLDER_FIELDS = names_where(lambda setting: setting.form == "folder")
"""The settings that may name a folder of the user's."""


def convert(name: str, value: Any) -> Any:
    """Return the value as the type of its setting, from that type, from text or from a whole float.

    Raises:
        BadInputError: it can't be that.
    """
    wanted = SETTINGS[name].type
    try:
        if wanted is str:
            return _string(value)
        if wanted in (float, int):
            return _number(wanted, value)
        return tuple(_number(int, part) for part in ((value,) if isinstance(value, str | int) else value))
    except (TypeError, ValueError, OverflowError):
        raise BadInputError(f"{name} takes {SETTINGS[name].kind}, not {value!r}.") from None


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(kind: type, value: Any) -> Any:
    """Return a finite int or float; a bool is neither, and 0.5 is no int."""
    if isinstance(value, bool):
        raise TypeError
    number = kind(value)
    if not math.isfinite(number) or (not isinstance(value, str) and number != value):
        raise ValueError
    return number + 0  # there is no minus zero, which would be another experiment by its id


@lru_cache(maxsize=65536, typed=True)
def decimal(value: Any) -> Any:
    """Return a float as a plain decimal string, so that no exponent gets into an id; any other value as it is."""
    if not isinstance(value, float):
        return value
    return format(Decimal(repr(float(value))).normalize(), "f")  # float() of NumPy's, whose repr is no number


def format_value(value: Any) -> str:
    """Return the value of a setting as its user would type it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(decimal(value))
