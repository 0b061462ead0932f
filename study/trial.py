"""A trial: one cell of the grid with the seeds of its members, validated, and the identity of both.

This is the one place that says which scientific settings exist, what their defaults are and which values they take.
The defaults are those of the paper's Appendix D.
"""

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Any, get_type_hints

from study.data import folders
from study.data.catalog import DATASETS
from study.errors import BadInputError, unknown
from study.networks import factories
from study.networks.catalog import NETWORKS, NORMS, check_token_norm

CORRUPTIONS = ("none", "label", "ood", "natural")
FOLDER_FIELDS = ("dataset", "ood")
"""The settings that may name a folder of the user's."""
SAMPLES = ("none", "scores", "gradients")
QUERIES = ("image", "mirror")
REGULARIZERS = ("none", "log", "hinge")
STOPPING = ("none", "best")
OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop")
PRECISIONS = ("fp32", "tf32", "bf16")
PROTOCOLS = ("full", "splits")
MODELS = 32
"""The models of `splits` unless another number is asked for, as in the paper."""
FEWEST_MODELS = 6
"""A target then has at least two shadows that are trained on a sample and two that aren't, as a variance needs."""
Value = str | int | float | tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The scientific configuration of one trial; two trials with equal fields are the same experiment.

    Device, paths and whatever else cannot change a result are not fields.

    Attributes:
        dataset: a built-in name, or `parquet:DIR` or `imagefolder:DIR`.
        subset: how many samples of the training set D keeps, drawn by class and the same for all seeds; 0 keeps all.
        validation: the share of the training set that is set aside, drawn by class and the same for all seeds and arms;
            D is what is left. It is never corrupted and never trained on.
        corruption: how D becomes D': `label` flips labels (paper, Algorithm 1), `ood` adds images of another dataset
            (Algorithm 2), `natural` changes nothing and calls the most atypical samples S_out; `none` exactly when k
            is 0.
        k: the size of S_out over that of D, in [0, 1).
        ood: the other dataset D*; `none` stands for the usual one of D, and for any other corruption.
        architecture: a built-in network, or `module:factory` for one of the user's, which is known by that name alone:
            a network that has changed is another experiment only under another name.
        norm: the normalization layers that the network is given.
        regularizer: the penalty on gamma/sigma (paper, Eq. 12); `none` exactly when alpha is 1.
        alpha: the weight of the cross-entropy against the regularizer, in (0, 1].
        label_smoothing: how much of each label the training loss spreads evenly over all classes, in [0, 1), as torch's
            cross-entropy does; no measurement has it.
        optimizer: the optimizer; `sgd` has momentum 0.9.
        lr: the learning rate, fixed over training.
        weight_decay: as the optimizer of torch defines it.
        batch_size: samples per step; the last batch of an epoch may be smaller.
        epochs: passes over D'.
        eval_every: epochs between two points of the curves; the last epoch always has one.
        stopping: the epoch at which a network is measured: the last, or with `best` (early stopping) the evaluated one
            of the highest validation accuracy, the first of equals. All epochs are trained.
        precision: the arithmetic of training: `fp32`; `tf32`, a GPU's shorter products; or `bf16`, torch's automatic
            mixed precision. Measurements are in float32.
        samples: what is recorded of each sample of D': `scores`, `gradients` for gradient norms as well, or `none`.
        queries: what a membership attacker shows to a model: each `image`, or its `mirror` image as well.
        protocol: `full` trains one member per seed, each on all of D'; `splits` trains for each seed several, each on a
            half of the one D' of that seed, so that every sample is in the training sets of exactly half of them.
        models: how many members `splits` has for each seed, an even number; 1 exactly when the protocol is `full`.
        seed: the seeds, kept in ascending order.

    Raises:
        BadInputError: a value is of the wrong type, out of range or at odds with another.
    """

    dataset: str = "digits"
    subset: int = 0
    validation: float = 0.0
    corruption: str = "label"
    k: float = 0.0
    ood: str = "none"
    architecture: str = "lenet"
    norm: str = "batch"
    regularizer: str = "none"
    alpha: float = 1.0
    label_smoothing: float = 0.0
    optimizer: str = "adam"
    lr: float = 1e-4
    weight_decay: float = 0.0
    batch_size: int = 256
    epochs: int = 200
    eval_every: int = 1
    stopping: str = "none"
    precision: str = "fp32"
    samples: str = "none"
    queries: str = "image"
    protocol: str = "full"
    models: int = 1
    seed: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        for name in FIELDS:
            value = getattr(self, name)
            check = _known if isinstance(value, str | int | float) else _checked
            object.__setattr__(self, name, check(name, value))
        for name in FOLDER_FIELDS:
            object.__setattr__(self, name, folders.absolute(getattr(self, name)))
        self._check_pairs()
        object.__setattr__(self, "seed", tuple(sorted(self.seed)))

    def _check_pairs(self) -> None:
        """Settings that mean nothing without each other have one spelling, so that one experiment has one id."""
        if self.k > 0 and self.corruption == "none":
            raise BadInputError(f"corruption=none leaves nothing to corrupt, so k must be 0, not {text(self.k)}.")
        if self.alpha < 1 and self.regularizer == "none":
            raise BadInputError(f"alpha={text(self.alpha)} weighs a regularizer: name one with regularizer=log|hinge.")
        if self.k == 0:
            object.__setattr__(self, "corruption", "none")
        object.__setattr__(self, "ood", self._source())
        if self.alpha == 1:
            object.__setattr__(self, "regularizer", "none")
        if self.stopping == "best" and self.validation == 0:
            raise BadInputError("stopping=best needs a validation set: set some of D aside with validation=0.1.")
        self._check_protocol()
        network = NETWORKS.get(self.architecture)
        if network is not None and network.built_with == "layer":
            check_token_norm(f"architecture={self.architecture}", self.norm)
        if self.regularizer != "none" and self.norm != "batch":
            raise BadInputError(f"regularizer={self.regularizer} needs the gamma and sigma of norm=batch.")

    def _check_protocol(self) -> None:
        if self.protocol == "full":
            if self.queries != "image":
                raise BadInputError(f"queries={self.queries} needs the shadow models of protocol=splits.")
            if self.models != 1:
                raise BadInputError(f"models={self.models} needs protocol=splits; protocol=full has one for each seed.")
            return
        if self.models == 1:
            object.__setattr__(self, "models", MODELS)
        if self.models % 2 or self.models < FEWEST_MODELS:
            raise BadInputError(
                f"protocol=splits needs an even number of models, {FEWEST_MODELS} or more, not {self.models}."
            )
        # Membership is inferred from the scores of the samples.
        if self.samples == "none":
            object.__setattr__(self, "samples", "scores")

    def _source(self) -> str:
        """D* by its name; `none` where nothing of it is added."""
        if self.corruption != "ood":
            return "none"
        usual = DATASETS[self.dataset].ood if self.dataset in DATASETS else "none"
        source = usual if self.ood == "none" else self.ood
        if source in ("none", self.dataset):
            raise BadInputError(f"corruption=ood on {self.dataset} needs another dataset: name it with ood=...")
        return source

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Trial":
        """A trial from settings by name, with a clear error for a name that is no setting."""
        for name in settings:
            if name not in FIELDS:
                raise unknown("setting", name, FIELDS)
        return cls(**settings)

    def settings(self) -> dict[str, Value]:
        """Every scientific field by name, JSON-ready but for the tuple of seeds."""
        return {name: getattr(self, name) for name in FIELDS}

    @property
    def members(self) -> tuple[tuple[int, int], ...]:
        """Each member's seed and its number among the models of that seed, in the order in which they are recorded."""
        return tuple((seed, model) for seed in self.seed for model in range(self.models))

    def values(self, names: Iterable[str]) -> tuple[Value, ...]:
        """Some of the settings, by which trials are told to be alike in them."""
        return tuple(getattr(self, name) for name in names)

    @cached_property
    def id(self) -> str:
        """16 hex digits of a SHA-256 over the fields that differ from their defaults.

        A later field whose default changes nothing thus leaves every earlier id as it was.
        """
        return _digest(self._canonical())

    @cached_property
    def cell(self) -> str:
        """The identity of the trial without its seeds: 16 hex digits, equal for all members of a cell."""
        return _digest({name: value for name, value in self._canonical().items() if name != "seed"})

    def _canonical(self) -> dict[str, Any]:
        named = {**self.settings(), **{name: folders.content(getattr(self, name)) for name in FOLDER_FIELDS}}
        return {name: _decimal(value) for name, value in named.items() if value != DEFAULTS[name]}

    def __str__(self) -> str:
        """The trial as its user would type it: the settings that differ from the defaults."""
        shown = [f"{name}={text(value)}" for name, value in self.settings().items() if value != DEFAULTS[name]]
        return " ".join(shown) or "the defaults"


FIELDS = tuple(field.name for field in fields(Trial))
DEFAULTS: Mapping[str, Any] = {field.name: field.default for field in fields(Trial)}
TYPES = get_type_hints(Trial)
CHOICES: Mapping[str, Collection[str]] = {
    "dataset": DATASETS,
    "corruption": CORRUPTIONS,
    "ood": ("none", "photos", *DATASETS),
    "architecture": NETWORKS,
    "norm": NORMS,
    "regularizer": REGULARIZERS,
    "optimizer": OPTIMIZERS,
    "stopping": STOPPING,
    "precision": PRECISIONS,
    "samples": SAMPLES,
    "queries": QUERIES,
    "protocol": PROTOCOLS,
}
RANGES: Mapping[str, tuple[Any, str]] = {
    "subset": (lambda size: 0 <= size < 2**31, "0 or more"),
    "validation": (lambda share: 0 <= share < 1, "in [0, 1)"),
    "k": (lambda k: 0 <= k < 1, "in [0, 1)"),
    "alpha": (lambda alpha: 0 < alpha <= 1, "in (0, 1]"),
    "label_smoothing": (lambda smoothing: 0 <= smoothing < 1, "in [0, 1)"),
    "lr": (lambda lr: lr > 0, "above 0"),
    "weight_decay": (lambda decay: decay >= 0, "0 or more"),
    "batch_size": (lambda size: 2 <= size < 2**31, "2 or more, for batch norm has no variance over one sample"),
    "models": (lambda models: 1 <= models < 2**15, "1 or more, and below 2^15"),
    "epochs": (lambda epochs: 1 <= epochs < 2**31, "1 or more, and below 2^31"),
    "eval_every": (lambda every: 1 <= every < 2**31, "1 or more, and below 2^31"),
    "seed": (
        lambda seed: len(seed) == len(set(seed)) > 0 and min(seed) >= 0 and max(seed) < 2**63,
        "one or more different whole numbers from 0 up, below 2^63",
    ),
}


def parse(assignments: Iterable[str]) -> dict[str, list[Any]]:
    """Values by setting, from the command line's `KEY=VALUE[,VALUE...]`.

    Raises:
        BadInputError: no `=`, an unknown or repeated key, or a value of the wrong type.
    """
    values: dict[str, list[Any]] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not text:
            raise BadInputError(f"{assignment!r} is not of the form KEY=VALUE.")
        if name not in FIELDS:
            raise unknown("setting", name, FIELDS)
        if name in values:
            raise BadInputError(f"{name} is set twice.")
        # Seeds are the members of one trial: each is a number of its own here, the tuple is made later.
        values[name] = [_coerce(name, part)[0] if name == "seed" else _coerce(name, part) for part in text.split(",")]
    return values


def _checked(name: str, value: Any) -> Any:
    """The value as the type of its field, if the field can have it."""
    found = _coerce(name, value)
    if name in CHOICES and found not in CHOICES[name]:
        folder, network = name in FOLDER_FIELDS, name == "architecture"
        if not ((folder and folders.parse(found)) or (network and factories.parse(found))):
            forms = folders.FORMS if folder else (factories.FORM,) if network else ()
            raise unknown(name, found, (*CHOICES[name], *forms))
    if name in RANGES and not RANGES[name][0](found):
        raise BadInputError(f"{name} must be {RANGES[name][1]}, not {text(found)}.")
    return found


_known = lru_cache(maxsize=65536, typed=True)(_checked)
"""The same, remembered: in a large grid each value comes thousands of times."""


def _coerce(name: str, value: Any) -> Any:
    """The value as the type of its field, from that type, from text or from a whole float."""
    wanted = TYPES[name]
    try:
        if wanted is str:
            return _string(value)
        if wanted is float:
            return _number(float, value)
        if wanted is int:
            return _number(int, value)
        return tuple(_number(int, seed) for seed in ((value,) if isinstance(value, str | int) else value))
    except (TypeError, ValueError, OverflowError):
        kind = {str: "text", float: "a number", int: "a whole number"}.get(wanted, "whole numbers")
        raise BadInputError(f"{name} takes {kind}, not {value!r}.") from None


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(kind: type, value: Any) -> Any:
    """A finite int or float; a bool is neither, and 0.5 is no int."""
    if isinstance(value, bool):
        raise TypeError
    number = kind(value)
    if not math.isfinite(number) or (not isinstance(value, str) and number != value):
        raise ValueError
    return number + 0  # there is no minus zero, which would be another experiment by its id


@lru_cache(maxsize=65536, typed=True)
def _decimal(value: Any) -> Any:
    """Floats as plain decimal strings, so that no JSON writer's taste for exponents gets into an id."""
    return format(Decimal(repr(value)).normalize(), "f") if isinstance(value, float) else value


def text(value: Any) -> str:
    """A setting's value as its user would type it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(_decimal(value))


def _digest(canonical: Mapping[str, Any]) -> str:
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
