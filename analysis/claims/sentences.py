"""Every sentence of the 2026 paper that asserts something measurable: where it stands, and which claims decide it.

The sentences are in our words. A sentence that no claim decides says why: it is about other people's work, it is
mathematics that `tests/study/test_theory.py` checks, or nothing that is recorded would tell. What only describes the
method is not here.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sentence:
    """A sentence of the paper.

    Attributes:
        place: its section, figure or table.
        says: the sentence in our words.
        claims: the names of the claims that decide it.
        undecidable: why there is none.
    """

    place: str
    says: str
    claims: tuple[str, ...] = ()
    undecidable: str = ""


OTHERS = "A finding of other work that the paper cites."
PROVED = "Mathematics of one filter, which the tests of study.theory check, with the conditions that the paper omits."

SENTENCES = (
    Sentence(
        "Abstract",
        "Across datasets and networks batch norm substantially increases the memorization of outliers.",
        ("fig1-above", "fig3-above", "fig19-complex"),
    ),
    Sentence(
        "Abstract",
        "The increased memorization translates directly into privacy risks.",
        ("abstract-samples", "fig20-together"),
    ),
    Sentence(
        "Abstract",
        "Models with batch norm are significantly more susceptible to membership inference.",
        ("c5-attack", "fig5-1pc", "fig5-5pc", "fig6-flips", "fig12-clean"),
    ),
    Sentence("Abstract; section 1", "It is outliers whose leakage batch norm amplifies.", ("abstract-outliers",)),
    Sentence(
        "Section 1",
        "Outliers, rare and mislabeled samples are memorized more than others.",
        undecidable=OTHERS,
    ),
    Sentence(
        "Section 1",
        "With batch norm outliers are memorized faster and more, and leak more.",
        ("fig1-above", "fig2-faster", "fig10-flipped", "abstract-outliers"),
    ),
    Sentence("Section 1", "gamma/sigma is above 1 on many datasets and networks.", ("theory-everywhere",)),
    Sentence(
        "Section 1",
        "The amplification is greatest in channels whose variance is low for their scale.",
        undecidable="Amplification is measured of networks, not of single channels.",
    ),
    Sentence(
        "Fig. 1, section 4.1",
        "With batch norm more flipped labels are memorized on all datasets and at all ratios.",
        ("fig1-above",),
    ),
    Sentence("Fig. 1, section 4.1", "The margin widens with the flipping ratio.", ("fig1-margin",)),
    Sentence(
        "Fig. 1, section 4.1",
        "Without batch norm memorization diminishes as more labels are flipped.",
        ("fig1-falls",),
    ),
    Sentence("Fig. 1, section 4.1", "With batch norm it is largely unaffected.", ("fig1-unaffected",)),
    Sentence(
        "Fig. 3, section 4.1",
        "Networks with batch norm fit outliers from elsewhere perfectly.",
        ("fig3-perfect", "fig11-perfect"),
    ),
    Sentence(
        "Fig. 3, section 4.1",
        "Without batch norm about 3% fewer of the outliers are fitted at every ratio.",
        ("fig3-above",),
    ),
    Sentence(
        "Fig. 2, section 4.1",
        "LeNet's loss on the noisy set falls much faster with batch norm.",
        ("fig2-faster",),
    ),
    Sentence("Fig. 2, section 4.1", "It approaches zero.", ("fig2-zero",)),
    Sentence(
        "Section 4.2",
        "The gradient norm goes with a sample's difficulty, its being an outlier and its memorization.",
        undecidable=OTHERS,
    ),
    Sentence(
        "Fig. 4, section 4.2",
        "With batch norm noisy samples have larger gradients than clean ones of the same model.",
        ("fig4-groups",),
    ),
    Sentence(
        "Fig. 4, section 4.2",
        "With batch norm noisy samples have larger gradients than without.",
        ("fig4-arms",),
    ),
    Sentence(
        "Fig. 4, section 4.2",
        "Without batch norm the gradients of noisy samples are harder to tell from those of clean ones.",
        ("fig4-contrast",),
    ),
    Sentence(
        "Fig. 5, section 4.3",
        "Batch norm adds at least 3% to the AUC of LiRA at 1% of atypical samples.",
        ("fig5-1pc",),
    ),
    Sentence("Fig. 5, section 4.3", "It adds at least 4% at 5% of them.", ("fig5-5pc",)),
    Sentence(
        "Fig. 5, section 4.3",
        "At low false positive rates too the attack is stronger against batch norm.",
        ("fig5-low-fpr",),
    ),
    Sentence("Fig. 6, section 4.3", "With flipped labels the margin is about 5%.", ("fig6-flips",)),
    Sentence("Prop. 5.2", "A step adds eta phi(-m) s^2 |x|^2 to the margin.", undecidable=PROVED),
    Sentence(
        "Cor. 5.3",
        "The margin grows (gamma/sigma)^2 times as fast with batch norm, at equal margins.",
        ("theory-amplified",),
    ),
    Sentence("Fig. 7, section 5", "gamma/sigma is above 1 in every layer and on every dataset.", ("fig7-above",)),
    Sentence("Section 5", "That it is above 1 emerges during training.", ("fig7-emerges", "theory-everywhere")),
    Sentence(
        "Prop. 5.4",
        "The outlier dominates the gradient of gamma.",
        ("theory-dominates", "theory-larger"),
    ),
    Sentence("Thm. 5.5", "gamma grows during training.", ("theory-gamma",)),
    Sentence("Thm. 5.5", "It is the outliers' gradients that make it grow.", ("theory-pushed",)),
    Sentence(
        "Thm. 5.5",
        "gamma grows in proportion to the outlier's deviation, and the loop stops as the margin grows.",
        undecidable=PROVED,
    ),
    Sentence(
        "Remark 1",
        "Well classified typical samples hardly move gamma on average.",
        ("theory-larger",),
    ),
    Sentence(
        "Prop. 5.6",
        "The ratio of influence is (gamma/sigma)^2 times that of the squared sigmoids of the margins.",
        ("theory-size", "theory-amplified", "theory-epochs"),
    ),
    Sentence(
        "Section 5, connection to experiments",
        "Noisy samples' gradient norms are shifted up by about (gamma/sigma)^2.",
        ("theory-shift", "fig4-arms"),
    ),
    Sentence(
        "Section 5, connection to experiments",
        "Clean samples show smaller differences between the arms than noisy ones.",
        ("fig4-contrast",),
    ),
    Sentence(
        "Fig. 8 A and B, section 6",
        "The regularizer memorizes less than a network without batch norm, and clean accuracy stays near 1.",
        ("fig8-mitigated", "fig8-tuned-mitigated"),
    ),
    Sentence(
        "Fig. 8 C and D, section 6",
        "A smaller alpha reduces memorization.",
        ("fig8-alpha", "fig8-tuned-alpha"),
    ),
    Sentence(
        "Fig. 8 C and D, section 6",
        "It does so at the cost of generalization.",
        ("fig8-tradeoff", "fig8-tuned-cost"),
    ),
    Sentence("Section 7", "Batch norm improves generalization.", ("fig18-price", "fig20-accuracy")),
    Sentence(
        "Section 7",
        "Memorizing rare samples need not hurt generalization, and may help it.",
        undecidable=OTHERS,
    ),
    Sentence("Section 7", "Networks without normalization may have the better trade-off.", ("s7-tradeoff",)),
    Sentence(
        "Section 8",
        "Memorization lies in the last layers, or the early ones settle sooner.",
        undecidable=OTHERS,
    ),
    Sentence("Lemma A.1", "The margin grows without bound.", undecidable=PROVED),
    Sentence(
        "A.2, Prop. A.2",
        "The time to memorize an outlier shrinks by (sigma/gamma)^2.",
        ("theory-time", "theory-faster"),
    ),
    Sentence("A.2", "gamma/sigma is about 5 in early layers on CIFAR.", ("theory-five",)),
    Sentence(
        "A.2, remark 2",
        "The speedup depends on neither the initial margin, the input nor the learning rate.",
        undecidable=PROVED,
    ),
    Sentence(
        "A.2.3",
        "Early in training the loss on noisy samples falls much faster with batch norm.",
        ("fig2-faster",),
    ),
    Sentence("A.2.3", "Late in training it is lower with batch norm.", ("a2-late",)),
    Sentence(
        "A.2.3",
        "Late in training the margins differ by about 2 log(gamma/sigma).",
        undecidable="A limit for a gamma/sigma that stays as it is, which in training it does not; see study.theory.",
    ),
    Sentence(
        "A.3",
        "Outliers keep deviating from the mean of the activations throughout training.",
        undecidable="Activations of training samples are not recorded over training.",
    ),
    Sentence(
        "A.3",
        "Outliers give the largest ratios in channels of small sigma.",
        undecidable="Ratios are recorded by channel over layers, not by sample.",
    ),
    Sentence(
        "Fig. 7, A.3",
        "Early layers have the largest gamma/sigma.",
        ("fig7-early", "fig7-early-emerges"),
    ),
    Sentence(
        "A.3",
        "Amplification multiplies over layers, and is larger than that of a single one.",
        undecidable="The paper gives no equation for deep networks to hold the measurement against.",
    ),
    Sentence(
        "A.3",
        "With batch norm DP-SGD clips more of the outliers, or needs more noise.",
        undecidable="No network is trained with differential privacy, in the paper or here.",
    ),
    Sentence(
        "A.3",
        "The predicted amplification is validated: gradients, convergence, ratios and attacks.",
        ("fig4-arms", "fig2-faster", "fig7-above", "fig5-1pc", "fig5-5pc", "fig6-flips"),
    ),
    Sentence("Fig. 9, C.1", "gamma/sigma is much greater than 1 in all layers and settings.", ("fig9-above",)),
    Sentence(
        "Fig. 10, C.2",
        "The loss falls faster with batch norm, on clean and on noisy samples.",
        ("fig10-clean", "fig10-flipped"),
    ),
    Sentence(
        "Fig. 11, C.3",
        "At every ratio more images from elsewhere are fitted with batch norm, by more than 3%.",
        ("fig11-above",),
    ),
    Sentence(
        "Fig. 12, C.4",
        "On clean data batch norm adds at least 1% to the AUC of LiRA.",
        ("fig12-clean", "fig12-each"),
    ),
    Sentence("Fig. 14, C.5", "The AUC varies over networks and ratios alike in both arms.", ("fig14-spread",)),
    Sentence(
        "C.5",
        "A one-tailed t-test rejects that the attack is less effective on batch norm, with p = 0.11%.",
        ("c5-attack",),
    ),
    Sentence(
        "Fig. 13, E.1",
        "At another learning rate, less is memorized without batch norm in 18 of 20 cases.",
        ("fig13-most",),
    ),
    Sentence("Fig. 15, E.2", "Batch norm memorizes more at every batch size.", ("fig15-batches",)),
    Sentence("Fig. 16, E.3", "It does so with every optimizer.", ("fig16-optimizers",)),
    Sentence("Fig. 17, E.4", "Every kind of normalization memorizes more than none, at all ratios.", ("fig17-norms",)),
    Sentence(
        "Table 1, E.5",
        "A vision transformer memorizes more with layer norm than without (the text has it the other way round).",
        ("table1-1pc", "table1-5pc"),
    ),
    Sentence(
        "Table 1",
        "The accuracies on flipped labels, by dataset and ratio.",
        tuple(
            f"table1-{ratio}-{dataset}"
            for ratio in ("1pc", "5pc")
            for dataset in ("mnist", "fashion_mnist", "cifar10", "cifar100")
        ),
    ),
    Sentence("Table 1, E.5", "With layer norm the flipped labels are fitted very well.", ("table1-fit",)),
    Sentence("Fig. 19, E.6", "SVHN and Tiny ImageNet show the same.", ("fig19-complex",)),
    Sentence("Fig. 18, F", "The arms differ less in test accuracy than in memorization.", ("fig18-gap",)),
    Sentence(
        "Fig. 18, F",
        "Removing batch norm costs generalization, though modestly, and reduces the risk substantially.",
        ("fig18-price", "fig18-modest", "fig18-gap"),
    ),
    Sentence(
        "Fig. 20, F",
        "What memorizes more is more vulnerable to the attack, and more accurate.",
        ("fig20-together", "fig20-memorized", "fig20-accuracy"),
    ),
)
