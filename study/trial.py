"""A trial: the settings of one cell of the grid and the seeds of its members, checked, with the identity of both."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import pyarrow as pa

from study import imports, seeds
from study.data import folders
from study.data.catalog import DATASETS
from study.errors import BadInputError, unknown
from study.joined import parse_epochs, parse_source, parse_suites
from study.networks.catalog import NetworkOptions, check_norm
from study.networks.published import PUBLISHED, check_published
from study.setting import Setting
from study.settings import (
    DEFAULTS,
    FOLDER_FIELDS,
    SETTINGS,
    Settings,
    Value,
    convert,
    decimal,
    format_value,
)

MODELS = 32
"""The models of `splits` unless another number is asked for, as in the paper."""
MOST_IN_A_RANGE = 10_000
_AS_PUBLISHED: Mapping[str, Value] = {
    **{"epochs": 0, "standardize": "paper2019", "k": 0.0, "subset": 0, "validation": 0.0, "resize": 0},
    **{"protocol": "full", "samples": "none", "mechanism": 0, "activations": 0},
}
"""The settings of a network that is measured as it is published, on no images but the test set's."""
FEWEST_MODELS = 6
"""A target then has at least two shadows that are trained on a sample and two that aren't, as a variance needs."""


@dataclass(frozen=True, kw_only=True)
class Trial(Settings):
    """The scientific configuration of one trial; two trials with equal settings are the same experiment.

    Device, paths and whatever else cannot change a result are no settings.

    Raises:
        BadInputError: a value is of the wrong type, out of range or at odds with another.

    Example:
        >>> trial = Trial(norm="none", k=0.1, seed=(0, 1))
        >>> print(trial)
        k=0.1 norm=none seed=0,1
        >>> trial == Trial.of({"seed": (1, 0), "k": 0.10, "norm": "none"}), len(trial.members)
        (True, 2)
    """

    def __post_init__(self) -> None:
        for name in SETTINGS:
            self._set(name, check(name, getattr(self, name)))
        for name in FOLDER_FIELDS:
            self._set(name, folders.absolute(getattr(self, name)))
        self._check_pairs()
        self._set("seed", tuple(sorted(self.seed)))

    def _set(self, name: str, value: Value) -> None:
        object.__setattr__(self, name, value)

    def _check_pairs(self) -> None:
        """Refuse settings that are at odds, and give those that mean nothing here one value.

        One experiment thus has one id.
        """
        if self.k > 0 and self.corruption == "none":
            raise BadInputError(
                f"corruption=none leaves nothing to corrupt, so k must be 0, not {format_value(self.k)}."
            )
        if self.alpha < 1 and self.regularizer == "none":
            raise BadInputError(
                f"alpha={format_value(self.alpha)} weighs a regularizer: name one with regularizer=log|hinge."
            )
        for name, stated in SETTINGS.items():
            if stated.only_where is not None:
                other, has_meaning = stated.only_where
                if not has_meaning(getattr(self, other)):
                    self._set(name, stated.elsewhere)
        if self.corruption == "ood":
            self._set("ood", self._ood_source())
        if self.suites:
            self._set("robustness", "+".join(self.suites))
        self._check_training()
        if self.stopping == "best" and self.validation == 0:
            raise BadInputError("stopping=best needs a validation set: set some of D aside with validation=0.1.")
        self._check_protocol()
        check_norm(self.architecture, self.norm)
        check_published(self.architecture, self.norm)
        self._check_imagenet()
        self._check_source()
        if self.regularizer != "none" and self.norm != "batch":
            raise BadInputError(f"regularizer={self.regularizer} needs the gamma and sigma of norm=batch.")

    def _check_training(self) -> None:
        """Refuse an optimizer and a network that can't be as the settings say."""
        if self.optimizer == "nesterov" and self.momentum == 0:
            raise BadInputError("optimizer=nesterov needs a momentum above 0; without one, name optimizer=sgd.")
        if self.architecture == "deep_mlp" and self.hidden_layers == 0:
            raise BadInputError("architecture=deep_mlp needs the number of its layers: name it with hidden_layers=10.")
        if self.drops and self.drops[-1] >= self.epochs:
            raise BadInputError(f"lr_drop={self.lr_drop} drops after the last epoch: training has {self.epochs}.")
        if self.epochs == 0 and self.stopping != "none":
            raise BadInputError(f"stopping={self.stopping} needs epochs to choose from, and epochs=0 has none.")

    def _check_imagenet(self) -> None:
        """Refuse to train on ImageNet, or to show other images to a network with published weights."""
        if self.dataset != "imagenet":
            if self.architecture in PUBLISHED:
                raise BadInputError(
                    f"architecture={self.architecture} has published weights for dataset=imagenet alone."
                )
            return
        if self.architecture not in PUBLISHED:
            raise BadInputError(
                "dataset=imagenet is for networks with published weights: name one, such as "
                "architecture=torchvision:vgg11."
            )
        for name, value in _AS_PUBLISHED.items():
            if getattr(self, name) != value:
                raise BadInputError(
                    f"dataset=imagenet measures networks as they are published: set {name}={format_value(value)}, not "
                    f"{format_value(getattr(self, name))}."
                )
        if self.suites and not self.attack_samples:
            self._set("attack_samples", DATASETS["imagenet"].test)

    @property
    def test_images(self) -> int:
        """How many test images are read where that is not all of them; 0 elsewhere."""
        return self.attack_samples if self.dataset == "imagenet" else 0

    def _check_source(self) -> None:
        """Refuse a suite that needs a source without one, and one that can't be."""
        if "transfer" in self.suites and self.source == "none":
            raise BadInputError("robustness=transfer attacks another network: name it with source=ARCHITECTURE/NORM.")
        if self.source != "none":
            if self.protocol != "full":
                raise BadInputError(f"source={self.source} is trained on all of D', as with protocol=full alone.")
            self.source_of(self.seed[0])

    def source_of(self, seed: int) -> "Trial":
        """Return the trial of the one network that is attacked in place of the member of a seed.

        It is trained as the member is, but for its own seed, which is the same in all arms, and without what only this
        trial's network is to be measured for or regularized by.

        Raises:
            BadInputError: there can be no such network.
        """
        parts = parse_source(self.source)
        assert parts is not None, "it was checked"
        architecture, norm = parts
        return replace(
            self,
            architecture=architecture,
            norm=norm,
            # Without a norm this trial has no constants of norms that its source could have.
            **{name: DEFAULTS[name] for name in ("norm_eps", "norm_momentum")},
            regularizer="none",
            alpha=1.0,
            robustness="none",
            samples="none",
            mechanism=0,
            activations=0,
            weights="none",
            stopping="none",
            seed=(seeds.key(seed, "source"),),
        )

    @property
    def network_options(self) -> NetworkOptions:
        """How its network is built, beside its architecture and its norm."""
        return NetworkOptions(self.hidden_layers, self.norm_eps, self.norm_momentum, self.standardize != "none")

    @property
    def drops(self) -> tuple[int, ...]:
        """The epochs after which the learning rate drops."""
        return parse_epochs(self.lr_drop) or ()

    @property
    def suites(self) -> tuple[str, ...]:
        """The suites by which robustness is measured."""
        return () if self.robustness == "none" else parse_suites(self.robustness) or ()

    def _check_protocol(self) -> None:
        if self.protocol == "full":
            if self.queries != "image":
                raise BadInputError(f"queries={self.queries} needs the shadow models of protocol=splits.")
            if self.models != 1:
                raise BadInputError(f"models={self.models} needs protocol=splits; protocol=full has one for each seed.")
            return
        if self.models == 1:
            self._set("models", MODELS)
        if self.models % 2 or self.models < FEWEST_MODELS:
            raise BadInputError(
                f"protocol=splits needs an even number of models, {FEWEST_MODELS} or more, not {self.models}."
            )
        # Membership is inferred from the scores of the samples.
        if self.samples == "none":
            self._set("samples", "scores")

    def _ood_source(self) -> str:
        """Return the name of D*: the one that was named, or the usual one of D."""
        usual = DATASETS[self.dataset].ood if self.dataset in DATASETS else "none"
        if self.dataset in DATASETS and usual == "none":
            raise BadInputError(f"corruption=ood adds images to D, and to that of {self.dataset} none can be added.")
        source = usual if self.ood == "none" else self.ood
        if source in ("none", self.dataset):
            raise BadInputError(f"corruption=ood on {self.dataset} needs another dataset: name it with ood=...")
        return source

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Trial":
        """Return the trial with these settings.

        Raises:
            BadInputError: a name is no setting, or the settings make no trial.
        """
        for name in settings:
            if name not in SETTINGS:
                raise unknown("setting", str(name), SETTINGS)
        return cls(**settings)

    def settings(self) -> dict[str, Value]:
        """Return every setting by name, JSON-ready but for the tuple of seeds."""
        return {name: getattr(self, name) for name in SETTINGS}

    @property
    def members(self) -> tuple[tuple[int, int], ...]:
        """Each member's seed and its number among the models of that seed, in the order in which they are recorded."""
        return tuple((seed, model) for seed in self.seed for model in range(self.models))

    def values(self, names: Iterable[str]) -> tuple[Value, ...]:
        """Return the values of some of the settings, by which trials are grouped."""
        return tuple(getattr(self, name) for name in names)

    @cached_property
    def id(self) -> str:
        """16 hex digits of a SHA-256 over the settings that differ from their defaults.

        A later setting whose default changes nothing thus leaves every earlier id as it was.
        """
        return _digest(self._canonical())

    @cached_property
    def cell(self) -> str:
        """The identity of the trial without its seeds: 16 hex digits, equal for all members of a cell."""
        return _digest({name: value for name, value in self._canonical().items() if name != "seed"})

    def _canonical(self) -> dict[str, Any]:
        named = {**self.settings(), **{name: folders.content(getattr(self, name)) for name in FOLDER_FIELDS}}
        return {name: decimal(value) for name, value in named.items() if value != DEFAULTS[name]}

    def __str__(self) -> str:
        """Return the trial as its user would type it: the settings that differ from the defaults."""
        shown = [f"{name}={format_value(value)}" for name, value in self.settings().items() if value != DEFAULTS[name]]
        return " ".join(shown) or "the defaults"


def check(name: str, value: Any) -> Any:
    """Return the value as the type of its setting.

    Raises:
        BadInputError: it is of another type, or none that the setting takes.
    """
    return (_check_cached if isinstance(value, str | int | float) else _check)(name, value)


def _check(name: str, value: Any) -> Any:
    stated, converted = SETTINGS[name], convert(name, value)
    if stated.choices and converted not in stated.choices and not _is_users_own(stated, converted):
        raise unknown(name, converted, stated.all_choices)
    numbers = converted if stated.is_tuple else (converted,)
    if stated.is_tuple and not 0 < len(set(numbers)) == len(numbers):
        raise BadInputError(f"{name} must be one or more different whole numbers, not {format_value(converted)!r}.")
    for number in numbers:
        if stated.within is not None and number not in stated.within:
            raise BadInputError(f"{name} must be {stated.within}, not {format_value(number)}.")
        if isinstance(number, int) and number >= 2 ** (stated.arrow.bit_width - 1):
            bits = stated.arrow.bit_width - 1
            raise BadInputError(f"{name} must be below 2^{bits}, for which its record has room, not {number}.")
    return converted


# In a large grid each value comes thousands of times.
_check_cached = lru_cache(maxsize=65536, typed=True)(_check)


def _is_users_own(stated: Setting, value: str) -> bool:
    """Return whether it names a dataset or a network of the user's, and the setting takes one."""
    return stated.form in _PARSERS and _PARSERS[stated.form](value) is not None


_PARSERS: Mapping[str, Callable[[str], object]] = {
    "folder": folders.parse,
    "factory": imports.parse,
    "epochs": parse_epochs,
    "suites": parse_suites,
    "source": parse_source,
}
"""The functions that return None for what is not of a setting's form."""


def parse(assignments: Iterable[str]) -> dict[str, list[Any]]:
    """Return the values by setting of the command line's `KEY=VALUE[,VALUE...]`; whole numbers may be ranges, `0..4`.

    Raises:
        BadInputError: no `=`, an unknown or repeated key, or a value of the wrong type.

    Example:
        >>> parse(["norm=batch,none", "k=0.1"])
        {'norm': ['batch', 'none'], 'k': [0.1]}
        >>> parse(["seed=0..3,7"])
        {'seed': [0, 1, 2, 3, 7]}
    """
    values: dict[str, list[Any]] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not text:
            raise BadInputError(f"{assignment!r} is not of the form KEY=VALUE.")
        if name not in SETTINGS:
            raise unknown("setting", name, SETTINGS)
        if name in values:
            raise BadInputError(f"{name} is set twice.")
        # Seeds are the members of one trial: each is a number of its own here, the tuple is made later.
        converted = [convert(name, part) for part in _spelled_out(name, text)]
        values[name] = [value[0] for value in converted] if SETTINGS[name].is_tuple else converted
    return values


def _spelled_out(name: str, text: str) -> Iterator[str]:
    """Yield the parts of `VALUE[,VALUE...]`; of a setting with whole numbers `2..4` stands for 2, 3 and 4.

    Raises:
        BadInputError: a range is empty, or longer than any grid.
    """
    whole = SETTINGS[name].arrow in (pa.int32(), pa.int64())
    for part in text.split(","):
        ends = re.fullmatch(r"(\d+)\.\.(\d+)", part.strip()) if whole else None
        if ends is None:
            yield part
            continue
        first, last = int(ends[1]), int(ends[2])
        if not first <= last < first + MOST_IN_A_RANGE:
            raise BadInputError(
                f"{name}={part} is no range: it goes from a number to one that is not below it, at most "
                f"{MOST_IN_A_RANGE:,} in all, as in {name}=0..4."
            )
        yield from map(str, range(first, last + 1))


def _digest(canonical: Mapping[str, Any]) -> str:
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
