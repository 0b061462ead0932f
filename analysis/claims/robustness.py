"""The claims of the 2019 paper (Galloway et al.), each a sentence of it with the test that decides it; one is ours.

The paper's uncertainties are standard errors. Where it gives a difference with one, the size that is claimed is the 95%
interval of five runs.
"""

from analysis.claims.claim import (
    NONE,
    Claim,
    Levels,
    alike,
    associated,
    every,
    mean,
    unaffected,
    within_everywhere,
)
from analysis.claims.effects import difference, ratio, value
from analysis.claims.memorization import T_OF_FIVE
from analysis.metrics import PERFECT, UNAFFECTED
from analysis.statistics.hypotheses import Size

SIZES = (28, 56, 84)
DECAY = {"weight_decay": "resize"}
"""The paper chose lambda by the size of the images."""
LAMBDAS = (0.01, 0.0225)
MLP: Levels = {"architecture": "mlp", "weight_decay": 0.0}
LINEAR: Levels = {"architecture": "linear"}
DEEP: Levels = {"architecture": "deep_mlp"}
RATE = {"lr": "batch_size"}
"""The learning rate is so much for each sample of a batch."""
SHALLOW = (2, 5, 8, 10, 15, 16, 20, 25)
"""The depths that maintain test accuracy with batch norm, at most 25 layers, those of the quick grid among them."""
UNTRAINABLE = (45, 50, 55, 60)
"""The depths beyond about 40 layers, at which the theory has batch norm untrainable."""
WITH_NORM: Levels = {"norm": "batch", "epochs": (10, 20)}
WITHOUT: Levels = {"norm": "none", "epochs": (40, 20)}
"""The arms of Figure 2: 10 epochs with batch norm and 40 without, which takes longer; on the digits 20 of both."""
SPHERES: Levels = {"architecture": "spheres_mlp"}
CUMULATIVE: Levels = {"norm": "batch", "norm_momentum": 0.0}
"""Batch norm with statistics over all of training, as the authors' code has it."""
AT_CHANCE = 0.6
"""The most training accuracy of two classes that counts as chance."""
WITHIN_A_POINT = 0.01
T_OF_THREE = 4.303
"""The 97.5% quantile of Student's t with 2 degrees of freedom."""
LEAST_BITS, BITS_ERROR = 4.26, 0.32
"""The least entropy of outputs with batch norm, and its greatest error, in bits."""


def reported(effect: float, error: float, runs: int = 5) -> Size:
    """Return the 95% interval of a difference over so many runs, 5 or 3, from its standard error."""
    half = {3: T_OF_THREE, 5: T_OF_FIVE}[runs] * error
    return effect - half, effect + half


ROBUSTNESS_CLAIMS = (
    Claim(
        "g19-t6-clean",
        "Table 6",
        "The arms differ little in clean accuracy at 28 pixels (we ask for less than a point).",
        ("input_dimension",),
        difference("test_acc"),
        alike(WITHIN_A_POINT),
        where={**MLP, "resize": 28},
        paper=-0.0008,
    ),
    Claim(
        "g19-t6-noise",
        "Table 6",
        "Batch norm costs 16.4 points of the accuracy under noise at 28 pixels.",
        ("input_dimension",),
        difference("noise_acc"),
        mean,
        where={**MLP, "resize": 28},
        alternative="less",
        size=reported(-0.164, 0.004),
        paper=-0.164,
    ),
    Claim(
        "g19-t6-bim",
        "Table 6",
        "Batch norm costs 43.8 points of the accuracy under BIM at 28 pixels.",
        ("input_dimension",),
        difference("pgd_linf_acc"),
        mean,
        where={**MLP, "resize": 28},
        alternative="less",
        size=reported(-0.438, 0.005),
        paper=-0.438,
    ),
    Claim(
        "g19-t6-sizes",
        "Table 6",
        "Batch norm costs about 40 points of the accuracy under BIM at each size.",
        ("input_dimension",),
        difference("pgd_linf_acc"),
        every,
        where={**MLP, "resize": SIZES},
        alternative="less",
        paper=-0.433,
    ),
    Claim(
        "g19-t6-sizes-noise",
        "Table 6",
        "Batch norm costs 13 to 16 points of the accuracy under noise at each size.",
        ("input_dimension",),
        difference("noise_acc"),
        every,
        where={**MLP, "resize": SIZES},
        alternative="less",
        paper=-0.149,
    ),
    Claim(
        "g19-t6-worst",
        "Table 6",
        "With batch norm at 84 pixels the accuracy under BIM is 61 points below that without at 28.",
        ("input_dimension",),
        difference("pgd_linf_acc"),
        mean,
        where=MLP,
        arm={"norm": "batch", "resize": 84},
        reference={"norm": "none", "resize": 28},
        alternative="less",
        size=reported(-0.61, 0.01),
        paper=-0.61,
    ),
    Claim(
        "g19-t7-bn",
        "Table 7",
        "With the same weight decay batch norm costs accuracy under BIM: 21.7 points at 56 pixels, 22.8 at 84.",
        ("input_dimension",),
        difference("pgd_linf_acc"),
        every,
        where={"architecture": "mlp", "weight_decay": LAMBDAS},
        alternative="less",
        paper=-0.2225,
    ),
    Claim(
        "g19-t7-bn-clean",
        "Table 7",
        "With the same weight decay batch norm costs clean accuracy too: 1.39 points at 56 pixels, 3.69 at 84.",
        ("input_dimension",),
        difference("test_acc"),
        every,
        where={"architecture": "mlp", "weight_decay": LAMBDAS},
        alternative="less",
        paper=-0.0254,
    ),
    Claim(
        "g19-t7-decay",
        "Tables 6 and 7",
        "Without batch norm weight decay gains accuracy under BIM: 34.7 points at 56 pixels, 40.3 at 84.",
        ("input_dimension",),
        difference("pgd_linf_acc"),
        every,
        where={"architecture": "mlp", "resize": SIZES[1:]},
        arm={"norm": "none", "weight_decay": LAMBDAS},
        reference={"norm": "none", "weight_decay": 0.0},
        goes_with=DECAY,
        paper=0.375,
    ),
    Claim(
        "g19-t7-both",
        "Section 4, Tables 6 and 7",
        "Batch norm in place of weight decay costs 79.3 points of the accuracy under BIM at 56 pixels and 81.2 at 84 "
        "(the tables themselves give 81.8).",
        ("input_dimension",),
        difference("pgd_linf_acc"),
        mean,
        where={"architecture": "mlp", "resize": SIZES[1:]},
        arm={"norm": "batch", "weight_decay": 0.0},
        reference={"norm": "none", "weight_decay": LAMBDAS},
        alternative="less",
        size=(-0.823, -0.788),
        paper=-0.8025,
    ),
    Claim(
        "g19-t11-grows",
        "Table 11",
        "Without weight decay a linear model's loss under FGSM grows with the size: 2.45, 4.15 and 5.96 times that at "
        "28 pixels, where 2, 3 and 4 are predicted.",
        ("input_dimension",),
        value("fgsm_loss"),
        associated("resize"),
        where={**LINEAR, "weight_decay": 0.0},
        arm=NONE,
        reference=None,
        table="robustness",
    ),
    Claim(
        "g19-t11-decay",
        "Table 11",
        "With weight decay it does not: the accuracy under FGSM at 56, 84 and 112 pixels is 0.98, 0.96 and 1.00 times "
        "that at 28 without (we ask for a factor of 1.1 at each).",
        ("input_dimension",),
        ratio("fgsm_acc"),
        within_everywhere(1.1),
        where=LINEAR,
        arm={"norm": "none", "weight_decay": (*LAMBDAS, 0.05), "resize": (56, 84, 112)},
        reference={"norm": "none", "weight_decay": 0.0, "resize": 28},
        table="robustness",
        goes_with=DECAY,
        ratio=True,
        paper=0.98,
    ),
    Claim(
        "g19-f2-depth",
        "Fig. 2, A.5",
        "Batch norm limits the depth that can be trained: beyond 40 layers clean accuracy falls with depth.",
        ("depth_batch_size",),
        value("test_acc"),
        associated("hidden_layers"),
        where={**DEEP, "hidden_layers": UNTRAINABLE},
        arm=WITH_NORM,
        reference=None,
        goes_with=RATE,
        alternative="less",
    ),
    Claim(
        "g19-f2-batch",
        "Fig. 2, A.5",
        "At depths up to 25 layers batch norm is less robust to BIM the larger the batch.",
        ("depth_batch_size",),
        value("pgd_linf_acc"),
        associated("batch_size"),
        where={**DEEP, "hidden_layers": SHALLOW},
        arm=WITH_NORM,
        reference=None,
        goes_with=RATE,
        alternative="less",
    ),
    Claim(
        "g19-f2-batch-none",
        "Fig. 2, A.5",
        "Without batch norm the robustness to BIM does not change with the batch (we ask for less than "
        f"{100 * UNAFFECTED:g} points from the smallest to the largest).",
        ("depth_batch_size",),
        value("pgd_linf_acc"),
        unaffected("batch_size", UNAFFECTED),
        where={**DEEP, "hidden_layers": SHALLOW},
        arm=WITHOUT,
        reference=None,
        goes_with=RATE,
    ),
    Claim(
        "g19-f2-none",
        "Fig. 2, section 3",
        "Without batch norm the robustness to BIM grows with depth.",
        ("depth_batch_size",),
        value("pgd_linf_acc"),
        associated("hidden_layers"),
        where=DEEP,
        arm=WITHOUT,
        reference=None,
        goes_with=RATE,
    ),
    Claim(
        "g19-f3-bits",
        "Fig. 3",
        "Beyond 40 layers the outputs with batch norm have more than 10 bits.",
        ("depth_batch_size",),
        value("output_bits"),
        mean,
        where={**DEEP, "hidden_layers": UNTRAINABLE},
        arm=WITH_NORM,
        reference=None,
        goes_with=RATE,
        margin=10.0,
    ),
    Claim(
        "g19-f3-bits-none",
        "Fig. 3",
        "Without batch norm they have as few as the least with it, 4.26 bits within 0.32: 4.21 to 4.06 with batches of "
        "20.",
        ("depth_batch_size",),
        value("output_bits"),
        mean,
        where={**DEEP, "batch_size": 20},
        arm=WITHOUT,
        reference=None,
        alternative="less",
        margin=LEAST_BITS + BITS_ERROR,
        paper=4.135,
    ),
    Claim(
        "g19-f4-spread",
        "Fig. 4, section 5",
        "Before training the classes are further apart in a layer of two units with batch norm than without.",
        ("clusters",),
        ratio("class_spread"),
        mean,
        table="activations",
        ratio=True,
    ),
    Claim(
        "g19-f1-mixed",
        "Fig. 1 and 7, section 2",
        "At layer 14 of a deep linear network before training batch norm has mixed the classes: the nearest other "
        "sample has the same class less often than without.",
        ("spheres",),
        difference("neighbour_acc"),
        mean,
        where={"architecture": "deep_linear"},
        table="activations",
        alternative="less",
    ),
    Claim(
        "g19-f8-fails",
        "Fig. 8, C",
        "With a learning rate of 0.01 the network with batch norm does not train: its training accuracy is at chance "
        f"(we ask for less than {AT_CHANCE:.0%}).",
        ("spheres",),
        value("clean_acc"),
        mean,
        where={**SPHERES, "lr": 0.01},
        arm=CUMULATIVE,
        reference=None,
        alternative="less",
        margin=AT_CHANCE,
        paper=0.5,
    ),
    Claim(
        "g19-f8-trains",
        "Fig. 8, C",
        f"Without batch norm it does, to 100% (we ask for more than {PERFECT:.0%}).",
        ("spheres",),
        value("clean_acc"),
        mean,
        where={**SPHERES, "lr": 0.01},
        arm=NONE,
        reference=None,
        margin=PERFECT,
        paper=1.0,
    ),
    Claim(
        "g19-f8-noise",
        "C",
        "With a learning rate of 0.001, at which both train, fewer points are classified under noise of variance 0.005 "
        "with batch norm than without: 94.83% against 96.06%.",
        ("spheres",),
        difference("noise_acc"),
        mean,
        where={**SPHERES, "lr": 0.001},
        arm=CUMULATIVE,
        alternative="less",
        paper=-0.0123,
    ),
    Claim(
        "g19-f8-control",
        "ours, beside Fig. 8",
        "With the usual running statistics in place of those over all of training, the network with batch norm does "
        f"train with a learning rate of 0.01 (more than {PERFECT:.0%}): the statistics failed, and not the step.",
        ("spheres",),
        value("clean_acc"),
        mean,
        where={**SPHERES, "lr": 0.01},
        arm={"norm": "batch", "norm_momentum": 0.1},
        reference=None,
        margin=PERFECT,
    ),
)
"""The claims that the records of a sweep decide."""
