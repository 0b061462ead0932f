"""Trained weights as safetensors: one file a member, which says which network it belongs to.

`restore(path)` is all that it takes to have a trained network back. The format holds no pickles, because a results
folder may come from anyone.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from study.errors import BadInputError, DamagedError
from study.networks.build import build
from study.networks.catalog import NetworkOptions
from study.networks.parts import Shape
from study.storage import location
from study.storage.open import open_store

REQUIRED = ("architecture", "norm", "shape", "classes", "seed")
"""What a file must say for its network to be built."""


def check(architecture: str, network: nn.Module) -> None:
    """Refuse a network with a state that is no tensor, for which a file of weights has no place.

    Raises:
        BadInputError: it has one.
    """
    for name, value in network.state_dict().items():
        if not isinstance(value, Tensor):
            raise BadInputError(
                f"weights=final keeps tensors, but {name!r} of architecture={architecture} is a {type(value).__name__}."
            )


def encode(
    network: nn.Module,
    architecture: str,
    norm: str,
    shape: Shape,
    classes: int,
    options: NetworkOptions,
    facts: Mapping[str, Any],
) -> bytes:
    """Return the weights and running statistics of a network as a safetensors file.

    Args:
        network: one of a pack as well, whose tensors are parts of larger ones.
        architecture: as in `build`.
        norm: as in `build`.
        shape: as in `build`.
        classes: as in `build`.
        options: as in `build`.
        facts: what else its metadata is to say; the `seed` is among it.
    """
    # A tensor of its own, in the plain layout, is all that the format takes.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    built = {"architecture": architecture, "norm": norm, "shape": ",".join(map(str, shape)), "classes": classes}
    metadata = {name: str(value) for name, value in {**built, **facts}.items()}
    metadata["options"] = json.dumps(asdict(options))
    return safetensors.torch.save(tensors, metadata)


def restore(path: str | Path) -> nn.Module:
    """Return a trained network in eval mode, on the CPU, from the file that a trial with `weights=final` left of it.

    It gives logits [N, classes] for images [N, C, H, W] of floats in [0, 1]. A network of the user's own is built by
    its factory, which must be at hand.

    Args:
        path: the file's path, or its URI in an object store.

    Raises:
        BadInputError: there is no such file, or it is none of trained weights; or the network can't be built, or is
            another one by now.
        DamagedError: the file is truncated.
    """
    shown, content = _read(os.fspath(path))
    try:
        tensors, facts = safetensors.torch.load(content), _metadata(content)
    except (safetensors.SafetensorError, ValueError):
        raise DamagedError(f"{shown!r} is truncated or no safetensors file; run its trial again.") from None
    if missing := [name for name in REQUIRED if name not in facts]:
        raise BadInputError(f"{shown!r} does not say its {missing[0]}: it is no file of `weights=final`.")
    channels, height, width = (int(size) for size in facts["shape"].split(","))
    shape = (channels, height, width)
    options = NetworkOptions(**json.loads(facts.get("options", "{}")))
    network = build(facts["architecture"], shape, int(facts["classes"]), facts["norm"], int(facts["seed"]), options)
    try:
        network.load_state_dict(tensors)
    except RuntimeError:
        raise BadInputError(
            f"the weights in {shown!r} don't fit architecture={facts['architecture']} with norm={facts['norm']}, which "
            "is another network by now."
        ) from None
    return network.eval()


def _read(path: str) -> tuple[str, bytes]:
    """Return how a file's location may be shown, and the file's content."""
    folder, name = location.split(location.absolute(path))
    try:
        return location.public(path), open_store(folder).read(name)
    except FileNotFoundError:
        raise BadInputError(f"there is no file of weights {location.public(path)!r}.") from None


def _metadata(content: bytes) -> dict[str, str]:
    """Return what a file says of itself; it begins with the length of its header, which is JSON."""
    length = int.from_bytes(content[:8], "little")
    facts: dict[str, str] = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    return facts
