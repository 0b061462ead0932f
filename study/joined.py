"""Settings that are several things in one, as the epochs of 150+250 and the network and the norm of vgg11/batch.

They are not joined by a comma, which would end the value, for the command line splits there.
"""

SUITES = ("pixel", "paper2019", "transfer", "corruptions")
"""The suites of perturbations that the lens on robustness knows, in the order in which they are measured."""
EPOCHS_FORM, SUITES_FORM, SOURCE_FORM = "EPOCH+EPOCH...", "SUITE+SUITE...", "ARCHITECTURE/NORM"


def parse_epochs(text: str) -> tuple[int, ...] | None:
    """Return the epochs of `150+250`, which must rise from 1; None for anything else."""
    parts = text.split("+")
    if not all(part.isascii() and part.isdecimal() and part == str(int(part)) for part in parts):
        return None
    epochs = tuple(int(part) for part in parts)
    rises = all(earlier < later for earlier, later in zip((0, *epochs), epochs, strict=False))
    return epochs if rises else None


def parse_suites(text: str) -> tuple[str, ...] | None:
    """Return the suites of `pixel+paper2019`, in the order of `SUITES`; None for anything else."""
    parts = text.split("+")
    known = tuple(suite for suite in SUITES if suite in parts)
    return known if len(known) == len(parts) else None


def parse_source(text: str) -> tuple[str, str] | None:
    """Return the architecture and the norm of `vgg11/batch`; None for anything else."""
    architecture, slash, norm = text.partition("/")
    return (architecture, norm) if slash and architecture and norm and "/" not in norm else None
