"""How far a pack is: through its epochs, and then through the lenses that take long."""

from collections.abc import Callable


class Pace:
    """Turn epochs and parts of lenses into the fraction of a pack that is done, and report it.

    A lens that takes as long as five epochs counts as these five.
    """

    def __init__(self, report: Callable[[float], None], epochs: int, lens_epochs: float, before: int = 0) -> None:
        """Begin to report.

        Args:
            report: called with the fraction that is done.
            epochs: how many epochs there are.
            lens_epochs: as how many the lenses count.
            before: how many epochs an earlier process has done and reported.
        """
        self._report, self._epochs, self._lens_epochs = report, epochs, lens_epochs
        whole = epochs + lens_epochs
        self._of_lens, self._told = 0.0, before / whole if whole else 0.0

    def epoch(self, epoch: int) -> None:
        """Report that so many epochs are done."""
        if whole := self._epochs + self._lens_epochs:
            self._tell(epoch / whole)

    def lens(self, fraction: float) -> None:
        """Report that a further fraction of the lenses is done."""
        self._of_lens += fraction
        self._tell((self._epochs + self._of_lens * self._lens_epochs) / (self._epochs + self._lens_epochs))

    def end(self) -> None:
        """Report that all is done, if that was not said."""
        if self._told < 1:
            self._tell(1.0)

    def _tell(self, fraction: float) -> None:
        self._told = fraction
        self._report(fraction)
