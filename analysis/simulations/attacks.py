"""Is an attack's AUC one half where there is nothing to find, and is the difference between arms that of the leakage?

Online LiRA is put to all N models on halves of one D', each the target of the others, as in an audit. A fresh target
is what it is compared with: its membership is a coin's, and every sample has equally many shadows on either side.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from analysis.simulations.scenario import Measure, Number, Scenario
from analysis.simulations.worlds import Floats, Generator, Mask, halves, mean_auc
from study.mia.audit import MAIN_ATTACK, attack_scores

SAMPLES = 200
LEAKING, TIGHT = 2.0, 0.0
"""How much higher a member's score is, in standard deviations, in two arms."""
Shape = Callable[[Generator, int, int], Floats]
"""Draws noise [models, samples]."""


def gaussian(generator: Generator, models: int, samples: int) -> Floats:
    """Return Gaussian noise."""
    return generator.normal(size=(models, samples))


def rare_errors(generator: Generator, models: int, samples: int) -> Floats:
    """Return Gaussian noise, of which one in thirty is twenty times as large."""
    return gaussian(generator, models, samples) * np.where(generator.random((models, samples)) < 1 / 30, 20.0, 1.0)


def spreads_vary(generator: Generator, models: int, samples: int) -> Floats:
    """Return Gaussian noise whose standard deviation is a sample's own."""
    return gaussian(generator, models, samples) * np.exp(generator.normal(size=samples))


def half_certain(generator: Generator, models: int, samples: int) -> Floats:
    """Return Gaussian noise that is next to nothing on the first half of the samples."""
    return gaussian(generator, models, samples) * np.where(np.arange(samples) < samples // 2, 1e-6, 1.0)


SHAPES: dict[str, Shape] = {
    "Gaussian": gaussian,
    "rare large errors": rare_errors,
    "spreads vary": spreads_vary,
    "half nearly certain": half_certain,
}
NULL = Measure("AUC where nothing leaks", 0.5, 0.497, 0.503)


def _auc(attack: str, scores: Floats, is_member: Mask) -> float:
    return mean_auc(attack_scores(attack, scores, is_member), is_member)


def _null(generator: Generator, shape: Shape, models: int, attack: str = MAIN_ATTACK) -> tuple[Number, ...]:
    is_member = halves(generator, models, SAMPLES)
    return (_auc(attack, generator.normal(size=SAMPLES) + shape(generator, models, SAMPLES), is_member),)


def _certain_samples(generator: Generator, models: int) -> tuple[Number, ...]:
    is_member = halves(generator, models, SAMPLES)
    found = attack_scores(MAIN_ATTACK, half_certain(generator, models, SAMPLES), is_member)
    certain = slice(SAMPLES // 2)
    return (mean_auc(found[:, certain], is_member[:, certain]),)


def _arms(generator: Generator, models: int) -> tuple[Number, ...]:
    """Return by how much the difference of two arms exceeds that of fresh targets with as many shadows."""
    audited = halves(generator, models, SAMPLES)
    noise = generator.normal(size=audited.shape)
    reported = [_auc(MAIN_ATTACK, noise + shift * audited, audited) for shift in (LEAKING, TIGHT)]
    samples = 5 * SAMPLES
    is_member = np.concatenate([generator.random((1, samples)) < 0.5, halves(generator, models, samples)])
    shadows = np.arange(models + 1)[:, None].repeat(samples, axis=1) > 0
    noise = generator.normal(size=is_member.shape)
    fresh = []
    for shift in (LEAKING, TIGHT):
        found = attack_scores(MAIN_ATTACK, noise + shift * is_member, is_member, shadows)[:1]
        fresh.append(mean_auc(found, is_member[:1]))
    return (reported[0] - reported[1] - (fresh[0] - fresh[1]),)


SCENARIOS = (
    *(
        Scenario(f"{MAIN_ATTACK}, {models} models, {name}", partial(_null, shape=shape, models=models), (NULL,), draws)
        for models, draws in ((8, 800), (16, 500), (32, 300))
        for name, shape in SHAPES.items()
    ),
    Scenario(
        f"{MAIN_ATTACK}, 16 models, the nearly certain half alone",
        partial(_certain_samples, models=16),
        (Measure(NULL.name, 0.5, 0.49, 0.51),),
        300,
    ),
    *(
        Scenario(f"{attack}, 8 models, Gaussian", partial(_null, shape=gaussian, models=8, attack=attack), (NULL,), 800)
        for attack in ("lira_offline", "lira_offline_two_sided", "rmia_online", "rmia_offline")
    ),
    *(
        Scenario(
            f"{MAIN_ATTACK}, {models} models, an arm that leaks and one that doesn't",
            partial(_arms, models=models),
            (Measure("difference of AUCs less that of fresh targets", 0.0, -0.003, 0.003),),
            draws,
        )
        for models, draws in ((8, 1500), (16, 1000), (32, 600))
    ),
)
