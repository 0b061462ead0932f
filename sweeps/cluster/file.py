"""A cluster's file as `ray up` reads it, and the values that this project takes from it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from study.errors import BadInputError

PROJECT = Path(__file__).parents[2]
MINE = "my-cluster.yaml"
"""The user's own copy of a template, which git ignores."""
PLACEHOLDERS = r"ami-0{17}|nobody|s3://bucket/.*|192\.0\.2\.\d+"
"""The values of the templates that nobody can have."""


@dataclass(frozen=True)
class ClusterFile:
    """A cluster's file that Ray accepts.

    Attributes:
        path: as the user gave it.
        config: its content, without Ray's defaults.
    """

    path: str
    config: dict[str, Any]

    @property
    def provider(self) -> dict[str, Any]:
        """Where the nodes are: `type`, and for AWS `region`."""
        provider: dict[str, Any] = self.config["provider"]
        return provider

    @property
    def head(self) -> dict[str, Any]:
        """What AWS is asked for to start the head."""
        return self._node(self.config["head_node_type"])

    @property
    def worker(self) -> dict[str, Any]:
        """What AWS is asked for to start a worker."""
        (name,) = (name for name in self.config["available_node_types"] if name != self.config["head_node_type"])
        return self._node(name)

    @property
    def results(self) -> str:
        """The URI of the records, which the tag `results` of the head has; empty if there is none."""
        tags = [tag for entry in self.head.get("TagSpecifications", ()) for tag in entry.get("Tags", ())]
        return next((tag["Value"] for tag in tags if tag["Key"] == "results"), "")

    @property
    def start_commands(self) -> list[str]:
        """What starts Ray, on the head and on a worker."""
        return [*self.config.get("head_start_ray_commands", ()), *self.config.get("worker_start_ray_commands", ())]

    def placeholders(self) -> list[str]:
        """The values that are still the template's."""
        values = (value for value in _leaves(self.config) if re.fullmatch(PLACEHOLDERS, value))
        return list(dict.fromkeys(values))

    def _node(self, name: str) -> dict[str, Any]:
        node: dict[str, Any] = self.config["available_node_types"][name]["node_config"]
        return node


def read(path: str) -> ClusterFile:
    """Read a cluster's file.

    Raises:
        BadInputError: there is none, it is no YAML, or Ray doesn't accept it.
    """
    from sweeps.launch.ray_internals import fault_of_config

    try:
        config = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise BadInputError(f"there is no {path}; make it with `python -m sweeps cluster init --to {path}`.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} can't be read: {error}.") from None
    except yaml.YAMLError as error:
        raise BadInputError(f"{path} is no YAML: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("provider"), dict):
        raise BadInputError(f"{path} is no cluster's file: it names no provider.")
    if reason := fault_of_config(config):
        raise BadInputError(f"Ray does not accept {path}: {reason}")
    file = ClusterFile(path, config)
    if file.provider["type"] == "aws" and len(config["available_node_types"]) != 2:
        raise BadInputError(f"{path} has to have two node types, the head's and the workers'.")
    return file


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for member in value.values():
            yield from _leaves(member)
    elif isinstance(value, list):
        for member in value:
            yield from _leaves(member)
    else:
        yield str(value)
