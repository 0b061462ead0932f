"""The first lens: what a member has learned of the atypical, of the clean and of the unseen."""

from torch import Tensor
from torch.nn.functional import cross_entropy

from study.corruption import Corrupted
from study.data import Split


def memorization(logits: Tensor, corrupted: Corrupted, test_logits: Tensor, test: Split) -> dict[str, float | None]:
    """Accuracy and mean cross-entropy by group, as the columns of `members` and `epochs` name them.

    `mem_` is S_out against the assigned labels, `clean_` is S_in, `test_` the untouched test set; `true_label_acc` is
    S_out against the labels that its samples had in D, None where they come from elsewhere. Without corruption S_out
    is empty and its values are None.

    Args:
        logits: [N, classes] of D', in eval mode.
        corrupted: D' itself.
        test_logits: [M, classes] of the test set, in eval mode.
        test: the test set.
    """
    out, inside = corrupted.atypical, ~corrupted.atypical
    known = out & (corrupted.original_labels >= 0)
    return {
        **_fit("mem", logits[out], corrupted.labels[out]),
        "true_label_acc": _accuracy(logits[known], corrupted.original_labels[known]),
        **_fit("clean", logits[inside], corrupted.labels[inside]),
        **_fit("test", test_logits, test.labels),
    }


def _fit(group: str, logits: Tensor, labels: Tensor) -> dict[str, float | None]:
    loss = cross_entropy(logits.double(), labels).item() if len(labels) else None
    return {f"{group}_acc": _accuracy(logits, labels), f"{group}_loss": loss}


def _accuracy(logits: Tensor, labels: Tensor) -> float | None:
    return (logits.argmax(dim=1) == labels).double().mean().item() if len(labels) else None
