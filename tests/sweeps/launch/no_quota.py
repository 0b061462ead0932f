"""Nodes of a cluster that grows, as processes of this machine; those of type `dear` are refused as by a quota of 0."""

from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.node_launch_exception import NodeLaunchException


class Provider(FakeMultiNodeProvider):  # type: ignore[misc]
    def create_node_with_resources_and_labels(
        self, node_config: Any, tags: dict[str, str], count: int, resources: Any, labels: Any
    ) -> Any:
        if "dear" in tags.values():
            raise NodeLaunchException("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded", None)
        return super().create_node_with_resources_and_labels(node_config, tags, count, resources, labels)
