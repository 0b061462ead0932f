"""Where a record came from: the code, the libraries and the device."""

import json
import platform
import re
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("normleak", "torch", "torchvision", "numpy", "scikit-learn", "pyarrow", "ray")


@cache
def provenance(device: str | None = None, backend: str | None = None, pack: int | None = None) -> dict[str, Any]:
    """The columns of `members` that say which code ran where, and how; nothing of the device where it is not known."""
    return {
        "backend": backend,
        "pack": pack,
        "device": device and device_name(device),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": _dirty(),
        "versions": json.dumps({"python": platform.python_version(), **_versions()}, sort_keys=True),
    }


@cache
def device_name(device: str) -> str:
    """The device as its maker calls it; Python's own `platform` does not know the processor's model on Linux."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.is_file() else None
    return f"{platform.machine()} {model[1] if model else 'cpu'}"


def _versions() -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def _dirty() -> bool | None:
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return None if changes is None else bool(changes)


def _git(*arguments: str) -> str | None:
    """What git says of the folder that this code lies in; None where it isn't a checkout."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
