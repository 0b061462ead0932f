"""Build torchvision's networks, and give them the weights that it publishes, from a file that the user has.

Nothing is downloaded: the file is looked for in the folder `weights` of the data folder, and where torch keeps what it
has downloaded itself.
"""

import hashlib
import re
import sys
from functools import cache
from pathlib import Path

import torch
from torch import nn

from study.errors import BadInputError
from study.networks.published import PUBLISHED

FOLDER = "weights"
"""The folder of the files within the data folder."""
_EARLIER = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.(?:weight|bias|running_mean|running_var))$")
"""The names in the published files of DenseNet, whose dots torch has not allowed since."""


def untrained(architecture: str, norm: str, classes: int) -> nn.Module:
    """Build torchvision's network with random weights.

    Args:
        architecture: a key of `PUBLISHED`.
        norm: a norm with which it is published.
        classes: the number of logits.
    """
    from torchvision.models import get_model

    network: nn.Module = get_model(PUBLISHED[architecture].models[norm], weights=None, num_classes=classes)
    return network


def load_published(network: nn.Module, architecture: str, norm: str, data_dir: Path | None) -> None:
    """Give an `untrained` network the published weights.

    Args:
        network: the network.
        architecture: as it was built by.
        norm: as it was built by.
        data_dir: the data folder.

    Raises:
        BadInputError: there is no file of them, or it is damaged or of another network.
    """
    path = weights_file(architecture, norm, data_dir)
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict({_EARLIER.sub(r"\1\2", name): tensor for name, tensor in tensors.items()})
    except Exception as error:  # what torch raises on a broken file depends on where it breaks
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInputError(
            f"{str(path)!r} is damaged, or has no weights of {architecture} with norm={norm}; put torchvision's file "
            f"there: {reason}"
        ) from None


def weights_file(architecture: str, norm: str, data_dir: Path | None) -> Path:
    """Return the file of a network's published weights, those of torchvision's `IMAGENET1K_V1`.

    Raises:
        BadInputError: there is none.
    """
    from torchvision.models import get_model_weights

    url = str(get_model_weights(PUBLISHED[architecture].models[norm])["IMAGENET1K_V1"].url)
    name = url.rpartition("/")[2]
    folders = [*([data_dir / FOLDER] if data_dir else []), Path(torch.hub.get_dir()) / "checkpoints"]
    found = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if found is None:
        where = " or ".join(repr(str(folder)) for folder in folders)
        raise BadInputError(
            f"the weights of architecture={architecture} with norm={norm} are not here: put {name} into {where}; it is "
            f"published at {url}."
        )
    _say_other_content(found)
    return found


@cache
def _say_other_content(path: Path) -> None:
    """Say, once a process, that a file is not the published one, whose name ends in the first digits of its SHA-256."""
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if not digest.startswith(path.stem.rpartition("-")[2]):
        print(f"{str(path)!r} is not what torchvision published under this name: its SHA-256 differs.", file=sys.stderr)
