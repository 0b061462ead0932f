"""All of Ray's private names that the project uses, each with its reason.

A release of Ray may move any of it, so Ray is pinned exactly, and a test looks up each of `PRIVATE_NAMES`.
"""

import json
import logging
import os
import re
import time
from ast import literal_eval
from collections.abc import Callable, Collection, Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import ray
from ray._private.node import psutil
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS, PROCESS_TYPE_RAYLET
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.sdk import GcsClient, get_cluster_status
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply
from ray.experimental.internal_kv import _internal_kv_get
from ray.tune.execution import class_cache
from ray.tune.logger import LoggerCallback
from ray.tune.result import TRAINING_ITERATION
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

WANDB = "ray.air.integrations.wandb"
PRIVATE_NAMES = {
    "ray._private.worker:_worker_logs_enabled": "switches the raylet's messages, for which there is no public switch",
    "ray._private.utils:set_sigterm_handler": "would replace what this process does at SIGTERM by an end at once",
    "ray.tune.execution.class_cache:ENV_VARS_TO_PROPAGATE": "names the variables that Tune would write into its logs",
    "ray._private.worker:_global_node": "has the processes of this machine's cluster, and its autoscaler's log",
    "ray._private.node:Node.kill_all_processes": "ends them, a second after a SIGTERM that none of them gets",
    "ray._private.ray_constants:PROCESS_TYPE_RAYLET": "is the key of the raylet among them",
    "ray._private.node:psutil": "lists what the raylet has started; Ray brings its own copy along",
    "ray.experimental.internal_kv:_internal_kv_get": "reads the report of the autoscaler of version 1",
    "ray._private.ray_constants:DEBUG_AUTOSCALING_STATUS": "is the key of that report",
    "ray.autoscaler.v2.sdk:get_cluster_status": "says which nodes the autoscaler could not launch",
    "ray.autoscaler.v2.sdk:GcsClient": "gets all of that, also what no node type can meet",
    "ray.core.generated.autoscaler_pb2:GetClusterStatusReply": "is what it answers",
    "ray.autoscaler._private.util:prepare_config": "fills in a cluster's file as `ray up` does",
    "ray.autoscaler._private.util:validate_config": "refuses a cluster's file as `ray up` does",
    f"{WANDB}:_WandbLoggingActor": "writes a W&B run, here in a process that gets the key from memory",
    f"{WANDB}:_WandbLoggingActor._handle_result": "is given each point; here it makes the epoch the axis",
    f"{WANDB}:WandbLoggerCallback._remote_logger_class": "is the Ray actor of the W&B writers",
    f"{WANDB}:WandbLoggerCallback._start_logging_actor": "starts a W&B writer, with the key in its runtime environment",
    f"{WANDB}:WandbLoggerCallback._trial_logging_futures": "says whether a W&B writer has failed",
    f"{WANDB}:WandbLoggerCallback._cleanup_logging_actor": "ends a W&B writer, without a word if it has failed",
    f"{WANDB}:WandbLoggerCallback._cleanup_logging_actors": "waits for the W&B writers at the end",
    f"{WANDB}:WandbLoggerCallback._upload_timeout": "is how long Ray waits for the W&B writers",
}
"""What each private name is used for, by `module:name` or `module:class.name`."""

LAUNCH_FAILED = re.compile(r"Failed to launch \d+ node\S* of type (\S+?)[:.] (?:Node Launch Exception )?(.+)")
"""What the autoscaler writes into its log where it can't launch nodes."""
INFEASIBLE = re.compile(
    r"^([\d-]+ [\d:]+),.*No available node types can fulfill resource request (\{.*?\})", re.MULTILINE
)
"""What the autoscaler of version 1 writes into its log where no node type has what is asked for, with the time."""
INTERRUPTED_S = 20
"""How long a logger may take to write its last runs after Ctrl-C."""


def silence_raylet() -> None:
    """Have Ray print none of its raylet's messages; what happens to a task is known by its outcome."""
    ray._private.worker._worker_logs_enabled = False


def keep_sigterm_handler() -> None:
    """Have Ray leave this process's handler of SIGTERM as it is."""
    ray._private.utils.set_sigterm_handler = lambda _: None


def shut_down() -> None:
    """Disconnect from the cluster, and end what this process has started of it.

    Ray would ask each process by a SIGTERM, which those of `cluster.connect` don't get, and give it a second. To end
    the raylet ends none of those that it has started: two of them would try for a minute to report its death.
    """
    node = ray._private.worker._global_node
    if node is None:
        return
    kill = node.kill_all_processes

    def kill_at_once(**_: Any) -> None:
        started = [process for raylet in node.all_processes.get(PROCESS_TYPE_RAYLET, ()) for process in _below(raylet)]
        kill(check_alive=False)
        for process in started:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    node.kill_all_processes = kill_at_once
    ray.shutdown()


def _below(raylet: Any) -> list[Any]:
    """Return the processes that a raylet has started, and those that these have."""
    try:
        return list(psutil.Process(raylet.process.pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def keep_out_of_logs(variables: Collection[str]) -> None:
    """Have Tune not hand these variables on to its workers.

    It would do so through the workers' runtime environment, which Ray writes into its logs.
    """
    class_cache.ENV_VARS_TO_PROPAGATE.difference_update(variables)


def launch_failures() -> list[str]:
    """Return, in a sentence each, which nodes the cluster's autoscaler could not launch; none if it can't say."""
    try:
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
        legacy = json.loads(_internal_kv_get(DEBUG_AUTOSCALING_STATUS) or "{}")
    except Exception:  # who waits for a cluster goes on without
        return []
    # Those of a cloud's provider end with a colon, and after it there is nothing.
    failed = {launch.ray_node_type_name: launch.details or ":" for launch in status.failed_launches}
    summary = (legacy.get("autoscaler_report") or {}).get("node_availability_summary") or {}
    for name, node in summary.get("node_availabilities", {}).items():
        if information := node["unavailable_node_information"]:
            failed[name] = f"({information['category']}): {information['description']}"
    logged = _logged_reasons() if failed else {}
    unknown = "why stands in logs/monitor.log of Ray's session on the head"
    return [
        "the autoscaler could not launch a "
        f"{name} node: {logged.get(name) or (unknown if reason.rstrip().endswith(':') else reason)}"
        for name, reason in failed.items()
    ]


def is_infeasible(request: Mapping[str, float], times: int, since: float) -> bool:
    """Return whether the autoscaler has found that no node type of the cluster has what is asked for.

    Args:
        request: the resources, which Ray names `CPU` and `GPU`.
        times: how often they are asked for. That only some can be met, as where the cluster is full, is not meant.
        since: when they were asked for, as `time.time` has it; those of before may have been asked of other node types.

    Returns:
        Whether it has; not if it can't say. That of version 1 says it in its log on the head alone.
    """
    status = GetClusterStatusReply()
    try:
        status.ParseFromString(GcsClient(ray.get_runtime_context().gcs_address).get_cluster_status(timeout_s=10))
    except Exception:  # who waits for a cluster goes on without
        return False
    reported = [dict(each.resources_bundle) for each in status.autoscaling_state.infeasible_resource_requests]
    asked_at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
    logged = [literal_eval(found) for log in _logs() for at, found in INFEASIBLE.findall(log) if at >= asked_at]
    return reported.count(dict(request)) >= times or dict(request) in logged


def fault_of_config(config: dict[str, Any]) -> str:
    """Return why `ray up` would refuse this content of a file, in one line; empty if it would not."""
    logging.getLogger("ray.autoscaler").setLevel(logging.WARNING)
    output = StringIO()
    try:
        # Ray prints what it thinks of the file, and exits.
        with redirect_stdout(output), redirect_stderr(output):
            validate_config(prepare_config(config))
    except (Exception, SystemExit) as error:
        reason = getattr(error, "message", "") or str(error) or output.getvalue()
        return reason.strip().splitlines()[0]
    return ""


def _logged_reasons() -> dict[str, str]:
    """Return why nodes of each type could not be launched the last time, as the autoscaler's log on this machine says.

    The autoscaler of version 2 tells a cloud's reason nowhere else.
    """
    return {name: reason.strip() for log in _logs() for name, reason in LAUNCH_FAILED.findall(log)}


def _logs() -> list[str]:
    """Return the autoscaler's logs, as far as they are on this machine."""
    node = ray._private.worker._global_node
    logs = [] if node is None else sorted(Path(node.get_logs_dir_path()).glob("monitor.*"))
    return [log.read_text(errors="replace") for log in logs]


def wandb_logger(project: str, give_up: Callable[[BaseException], None]) -> LoggerCallback:
    """Return Ray's W&B logger, whose writers are on this machine and get what this process knows of W&B from memory.

    Ray's own logger would give them the key through their runtime environment, which Ray writes into its logs.

    Args:
        project: the W&B project.
        give_up: called with the error if a run could not be written.
    """
    # Loads wandb.
    from ray.air.integrations.wandb import WandbLoggerCallback, _WandbLoggingActor

    class Logger(WandbLoggerCallback):  # type: ignore[misc]
        _remote_logger_class: Any

        def _start_logging_actor(self, *args: Any, **kwargs: Any) -> None:
            if self._remote_logger_class is None:
                variables = {name: value for name, value in os.environ.items() if name.startswith("WANDB_")}
                here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
                remote = ray.remote(num_cpus=0, scheduling_strategy=here)
                self._remote_logger_class = remote(_with_environment(_WandbLoggingActor, ray.put(variables)))
            super()._start_logging_actor(*args, **kwargs)

        def _cleanup_logging_actor(self, trial: Any) -> None:
            writing = self._trial_logging_futures[trial]
            super()._cleanup_logging_actor(trial)
            try:
                ray.get(writing, timeout=0)
            except ray.exceptions.GetTimeoutError:
                give_up(TimeoutError(f"run {trial} was not written in time"))
            except Exception as error:
                give_up(error)

        def on_experiment_end(self, trials: list[Any], interrupted: bool = False, **info: Any) -> None:
            timeout = INTERRUPTED_S if interrupted else self._upload_timeout
            self._cleanup_logging_actors(timeout=timeout, kill_on_timeout=True)

    return Logger(project, excludes=[TRAINING_ITERATION])


def _with_environment(writer: type, variables: Any) -> type:
    """Return a subclass whose process sets these variables, a reference, so they go from memory to memory alone."""

    class Writer(writer):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            os.environ.update(ray.get(variables))
            super().__init__(*args, **kwargs)
            self.has_axis = False

        def _handle_result(self, result: dict[str, Any]) -> Any:
            import wandb

            if not self.has_axis:
                # Members may train one after another, and W&B's own step never goes back.
                wandb.define_metric("epoch")
                wandb.define_metric("*", step_metric="epoch")
                self.has_axis = True
            return super()._handle_result({**result, "epoch": result[TRAINING_ITERATION]})

    return Writer
