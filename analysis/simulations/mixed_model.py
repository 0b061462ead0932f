"""Do the intervals of marginal effects hold the true ones, where effects vary over seeds and where members are lost?"""

from functools import partial

from analysis.metrics import select_metrics
from analysis.simulations.scenario import Measure, Number, Scenario
from analysis.simulations.worlds import Generator, members
from analysis.statistics.factorial import effects
from study.trial import Trial

AXES = {"norm": ("batch", "none"), "lr": (1e-4, 1e-3), "k": (0.1, 0.2, 0.3)}
SEEDS = 5
OF_NORM, OF_RATE = 0.3, -0.1
NOISE, OF_SEED = 0.05, 0.1
METRIC = select_metrics(["mem_acc"])


def _draw(generator: Generator, slope: float, lost: str) -> tuple[Number, ...]:
    """Return whether the effect of the norm is in its interval, whether a note tells of losses, and whether neither.

    Args:
        generator: the randomness.
        slope: the standard deviation over seeds of the effect of the norm.
        lost: what diverges: nothing, members at random, or in one corner those that memorize least.
    """
    seeds, slopes = OF_SEED * generator.normal(size=SEEDS), slope * generator.normal(size=SEEDS)

    def value(trial: Trial, seed: int, _: int) -> float | None:
        batch, fast = trial.norm == "batch", trial.lr == AXES["lr"][1]
        noise = NOISE * generator.normal()
        corner = not batch and fast
        if lost == "at random" and generator.random() < 0.2:
            return None
        if lost == "informative" and corner and seeds[seed] + noise < 0.05:
            return None
        return float(0.3 + seeds[seed] + noise + batch * (OF_NORM + slopes[seed]) + fast * OF_RATE)

    frame = members(AXES, SEEDS, 1, value, "mem_acc")
    table, notes = effects(frame, METRIC)
    row = table[(table["axis"] == "norm") & table["norm"].isna()].iloc[0]
    warned = any("losses depend" in note for note in notes)
    covered = bool(row["low"] <= OF_NORM <= row["high"])
    return covered, warned, not covered and not warned


COVERED = Measure("coverage of the norm's effect", 0.95, 0.92)
QUIET = Measure("warned that losses depend on a level", 0.05, most=0.1)
UNWARNED = Measure("intervals without the effect and without a warning", 0.05, most=0.08)

SCENARIOS = (
    *(
        Scenario(name, partial(_draw, slope=slope, lost=lost), (COVERED, QUIET, UNWARNED), 400)
        for name, slope, lost in (
            ("effects alike over seeds", 0.0, ""),
            ("effects vary over seeds", 0.05, ""),
            ("effects vary over seeds, a fifth is lost at random", 0.05, "at random"),
        )
    ),
    Scenario(
        "effects vary over seeds, in one corner those are lost that memorize least",
        partial(_draw, slope=0.05, lost="informative"),
        # No interval can hold an effect on members whose loss depends on it: hence the warning.
        (Measure(COVERED.name, 0.95), Measure(QUIET.name, 1.0, least=0.8), UNWARNED),
        400,
    ),
)
