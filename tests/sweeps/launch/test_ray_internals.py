import ast
import inspect
import json
import signal
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply

from sweeps.launch import ray_internals
from sweeps.launch.environment import RAY_ENVIRONMENT
from sweeps.launch.ray_internals import PRIVATE_NAMES
from tests.ray_runs import ROOT

HERE = Path(inspect.getfile(ray_internals))


def moved(name: str, purpose: str) -> str:
    """What to say if Ray has the name no more; nothing if it has."""
    module, _, path = name.partition(":")
    try:
        value = import_module(module)
        *owners, last = path.split(".")
        for owner in owners:
            value = getattr(value, owner)
        # Some attributes are those of an instance.
        getattr(value("project") if isinstance(value, type) and not hasattr(value, last) else value, last)
    except (ImportError, AttributeError) as error:
        return (
            f"Ray {ray.__version__} has moved {name}, which {purpose} ({error}): "
            "find its new place, and mend sweeps/launch/ray_internals.py."
        )
    return ""


@pytest.mark.parametrize("name", PRIVATE_NAMES)
def test_ray_has_every_private_name_that_is_used(name: str):
    if "wandb" in name:
        pytest.importorskip("wandb")
    message = moved(name, PRIVATE_NAMES[name])
    assert not message, message


@pytest.mark.parametrize(
    "name",
    ["ray._private.no_such_module:name", "ray._private.worker:_no_such_name", "ray.tune.logger:_NoSuchClass.name"],
)
def test_a_name_that_moves_is_told_with_its_use_and_the_remedy(name: str):
    message = moved(name, "turns something off")
    assert name in message
    assert "which turns something off" in message
    assert "mend sweeps/launch/ray_internals.py" in message


def test_the_raylet_is_silenced_and_variables_are_kept_out_of_the_logs(monkeypatch: pytest.MonkeyPatch):
    printed: list[str] = []
    monkeypatch.setattr(ray._private.worker, "_worker_logs_enabled", True)
    ray_internals.silence_raylet()
    ray._private.worker.print_worker_logs({"ip": "1", "pid": "raylet", "lines": ["noise"], "job": None}, printed.append)
    assert printed == []
    from ray.tune.execution import class_cache

    monkeypatch.setattr(class_cache, "ENV_VARS_TO_PROPAGATE", {"AWS_SECRET_ACCESS_KEY", "ANOTHER"})
    ray_internals.keep_out_of_logs(["AWS_SECRET_ACCESS_KEY"])
    assert list(class_cache.ENV_VARS_TO_PROPAGATE) == ["ANOTHER"]


QUOTA = {"category": "VcpuLimitExceeded", "description": "You have requested more vCPU capacity than your limit of 0"}
LEGACY = {
    "autoscaler_report": {
        "node_availability_summary": {
            "node_availabilities": {
                "worker": {"is_available": False, "unavailable_node_information": QUOTA},
                "other": {"is_available": True, "unavailable_node_information": None},
            }
        }
    }
}
LOG = """
2026-01-01 INFO node_provider.py:493 -- Failed to launch 2 nodes of type worker: Node Launch Exception (Old): Gone
2026-01-01 INFO node_provider.py:493 -- Failed to launch 1 nodes of type worker: Node Launch Exception (New): There
"""


@pytest.mark.parametrize(
    ("details", "legacy", "log", "said"),
    [
        (None, None, "", []),
        (None, LEGACY, "", [f"(VcpuLimitExceeded): {QUOTA['description']}"]),
        ("launch failed with Failed to launch 1 nodes of type worker with request id 7: ", None, LOG, ["(New): There"]),
        ("launch failed with Failed to launch 1 nodes of type worker with request id 7: ", None, "", ["why stands in"]),
        ("failed to allocate cloud instance after 4 attempts", None, "", ["failed to allocate cloud instance after"]),
    ],
    ids=["none", "version_1", "version_2", "version_2_elsewhere", "version_2_told"],
)
def test_why_nodes_could_not_be_launched_is_found_wherever_it_is_said(
    details: str | None,
    legacy: object,
    log: str,
    said: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    launches = [] if details is None else [SimpleNamespace(ray_node_type_name="worker", details=details)]
    (tmp_path / "monitor.log").write_text(log)
    node = SimpleNamespace(get_logs_dir_path=lambda: str(tmp_path))
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address="here"))
    monkeypatch.setattr(ray_internals, "get_cluster_status", lambda _: SimpleNamespace(failed_launches=launches))
    monkeypatch.setattr(ray_internals, "_internal_kv_get", lambda _: json.dumps(legacy).encode() if legacy else None)
    monkeypatch.setattr(ray._private.worker, "_global_node", node)
    failures = ray_internals.launch_failures()
    assert len(failures) == len(said)
    for failure, reason in zip(failures, said, strict=True):
        assert failure.startswith(f"the autoscaler could not launch a worker node: {reason}")


def test_an_autoscaler_that_can_not_be_asked_stops_nobody(monkeypatch: pytest.MonkeyPatch):
    def fails(_: object) -> None:
        raise RuntimeError("no answer")

    monkeypatch.setattr(ray_internals, "get_cluster_status", fails)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address="here"))
    assert ray_internals.launch_failures() == []


@pytest.mark.parametrize(
    ("met", "log", "since", "infeasible"),
    [
        (0, "", 0.0, True),
        (1, "", 0.0, False),  # the cluster is full
        (2, "2026-01-02 03:04:05,678 INFO monitor.py:435 -- :event_summary:Error: {}", 1.5e9, True),
        (2, "2026-01-02 03:04:05,678 INFO monitor.py:435 -- :event_summary:Error: {}", 2e9, False),  # of a run before
    ],
)
def test_a_request_is_infeasible_if_no_node_type_can_meet_it(
    met: int, log: str, since: float, infeasible: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    status = GetClusterStatusReply()
    for _ in range(2 - met):
        status.autoscaling_state.infeasible_resource_requests.add(resources_bundle={"CPU": 1.0, "GPU": 1.0})
    client = SimpleNamespace(get_cluster_status=lambda timeout_s: status.SerializeToString())
    sentence = "No available node types can fulfill resource request {'CPU': 1.0, 'GPU': 1.0}. Add suitable node types."
    (tmp_path / "monitor.log").write_text(log.format(sentence))
    node = SimpleNamespace(get_logs_dir_path=lambda: str(tmp_path))
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address="here"))
    monkeypatch.setattr(ray_internals, "GcsClient", lambda _: client)
    monkeypatch.setattr(ray._private.worker, "_global_node", node)
    assert ray_internals.is_infeasible({"CPU": 1.0, "GPU": 1.0}, 2, since) == infeasible
    assert not ray_internals.is_infeasible({"CPU": 1.0}, 2, since)


def test_sigterm_is_left_to_this_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray._private.utils, "set_sigterm_handler", ray._private.utils.set_sigterm_handler)
    ray_internals.keep_sigterm_handler()
    before = signal.getsignal(signal.SIGTERM)
    ray._private.utils.set_sigterm_handler(print)
    assert signal.getsignal(signal.SIGTERM) is before


@cache
def source_of_ray() -> str:
    folders = ("_private", "_common", "air", "train", "tune")
    files = (path for folder in folders for path in (Path(ray.__file__).parent / folder).rglob("*.py"))
    return "\n".join(path.read_text() for path in files)


@pytest.mark.parametrize("variable", RAY_ENVIRONMENT)
def test_ray_still_knows_the_variables_that_are_set_for_it(variable: str):
    assert f'"{variable}"' in source_of_ray(), f"Ray {ray.__version__} reads {variable} no more; find its successor."


def private_names(source: str) -> Iterator[str]:
    """The private names that a module reaches into Ray for: by import, or through `ray` itself."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "ray":
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from (part for part in parts if part.startswith("_") or part == "class_cache")
        elif isinstance(node, ast.Import):
            parts = [part for alias in node.names for part in alias.name.split(".") if alias.name.startswith("ray.")]
            yield from (part for part in parts if part.startswith("_"))
        elif (
            isinstance(node, ast.Attribute)
            and ast.unparse(node).startswith("ray.")
            and node.attr.startswith("_")
            and not node.attr.startswith("__")
        ):
            yield node.attr


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("ray._private.worker.x = 1", ["_private"]),
        ("from ray.tune.execution import class_cache", ["class_cache"]),
        ("from ray.air.integrations.wandb import _WandbLoggingActor", ["_WandbLoggingActor"]),
        ("import ray._private.worker", ["_private"]),
        ("import ray\nray.get(self._x)\nself._ray.y", []),
    ],
)
def test_private_names_are_seen(line: str, names: list[str]):
    assert list(private_names(line)) == names


def test_ray_s_private_names_are_used_in_one_file_alone():
    files = [path for path in (ROOT / "sweeps").rglob("*.py") if list(private_names(path.read_text()))]
    assert files == [HERE]


def test_every_private_name_that_is_used_has_its_reason():
    tree = ast.parse(HERE.read_text())
    ours = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    (logger,) = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == "Logger")
    methods = {node.name for node in logger.body if isinstance(node, ast.FunctionDef)}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used = {*private_names(HERE.read_text()), *methods, *attributes}
    used = {name for name in used - ours if name.startswith("_") and not name.startswith("__")} - {"_private"}
    stated = {name.rpartition(":")[2].rpartition(".")[2] for name in PRIVATE_NAMES}
    assert used == {name for name in stated if name.startswith("_")}
