"""What does each kind of normalization cost in memorization, privacy and robustness, measured on the same networks?

It joins both papers: flips and shadow models of the one, attacks of the other, of today's kind, and its corruptions.
Neither has it. Fixup, which does without norms, is for residual networks, so that LeNet at quick scale lacks it.
"""

from typing import Any

from sweeps.sweep import Sweep, product

NORMS = ("batch", "group", "instance", "layer", "none")
SHARED: dict[str, Any] = {
    "corruption": "label",
    "k": 0.1,
    "protocol": "splits",
    "samples": "gradients",
    "robustness": "pixel+corruptions",
}

SWEEP = Sweep(
    name="panel",
    question="What does each kind of normalization cost in memorization, privacy and robustness at once?",
    feeds="2019 and 2026: the panel that joins them",
    quick=(
        product(
            **SHARED,
            norm=NORMS,
            dataset="digits",
            architecture="lenet",
            lr=1e-3,
            batch_size=64,
            epochs=30,
            eval_every=10,
            models=16,
            attack_samples=48,
        ),
    ),
    paper=(product(**SHARED, norm=(*NORMS, "fixup"), dataset="cifar10", architecture="resnet18", models=32),),
    version=2,
)
