"""The provenance of a record: the code, the libraries and the device that made it."""

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
    """Return the columns of `members` that say which code ran, on what and how.

    Args:
        device: the device as torch names it; null in the record where it is not known.
        backend: how members trained side by side.
        pack: how many of them.
    """
    return {
        "backend": backend,
        "pack": pack,
        "device": device and device_name(device),
        "git_commit": _commit(),
        "git_dirty": _dirty(),
        "versions": json.dumps({"python": platform.python_version(), **_versions()}, sort_keys=True),
    }


@cache
def device_name(device: str) -> str:
    """Return the maker's name of a device, such as `cuda` or `cpu`."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")  # on Linux, Python's own `platform` does not know the model
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


def _commit() -> str | None:
    """Return the commit of this code; of one that was installed without a checkout its version, as `normleak 0.1.0`."""
    if _is_tracked():
        return _git("rev-parse", "HEAD")
    own = _versions().get("normleak")
    return own and f"normleak {own}"


def _dirty() -> bool | None:
    changes = _git("status", "--porcelain", "--untracked-files=no") if _is_tracked() else None
    return None if changes is None else bool(changes)


@cache
def _is_tracked() -> bool:
    """Return whether this file is of a checkout, and not merely in the folder of somebody else's, as in its `.venv`."""
    return _git("ls-files", "--error-unmatch", Path(__file__).name) is not None


def _git(*arguments: str) -> str | None:
    """Return git's answer about the folder of this code; None where it isn't a checkout."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
