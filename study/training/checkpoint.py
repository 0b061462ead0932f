"""Checkpoints: what the packs of a long trial have come to, so that one that was stopped goes on as if it never was.

A pack in training is kept as its networks with their running statistics, its optimizer's state and what was recorded
so far; one that has been measured, as its records. Each is under a name that stands for all that decides about the
numbers: a pack that is asked for in another way, on another device or of other code begins anew.

A checkpoint is a ZIP archive, whose checksums tell a damaged one: a tree of JSON, and the bytes of the tensors and
tables in it. It holds no pickles, for a results folder may come from anyone. One that can't be used is no error: the
pack begins anew.
"""

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any, Protocol

import pyarrow as pa
import torch
from torch import Tensor

from study.record.provenance import provenance
from study.record.schema import SCHEMAS
from study.training.early_stopping import State
from study.training.loop import Member, Training

EVERY_S = 180.0
"""How long a run trains, at the least, until it keeps another checkpoint."""
KEPT_IN_S = 9.0
"""What it may take to keep one: where it takes longer, there are fewer in proportion."""

Row = dict[str, Any]
Tables = Mapping[str, list[Row] | pa.Table]


class Keeper(Protocol):
    """Where checkpoints are kept, such as `study.record.checkpoints.Kept`."""

    def load(self, name: str) -> bytes | None:
        """What was saved under that name; None where there is nothing."""

    def save(self, name: str, content: bytes) -> None:
        """Keep it in place of what has that name."""


@dataclass
class Course:
    """What has become of a pack, beside its training itself.

    Attributes:
        epochs: the curve of each member, rows of `epochs`.
        layers: each one's rows of `layers`.
        best: the state in which each member did best, by its position, where early stopping asks for it.
        started: when it was begun.
        earlier: the seconds that processes before this one had spent on it.
    """

    epochs: list[list[Row]]
    layers: list[list[Row]]
    best: dict[int, State] = field(default_factory=dict)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    earlier: float = 0.0
    _clock: float = field(default_factory=time.perf_counter)

    @classmethod
    def begun(cls, members: int) -> "Course":
        """That of a pack of so many, now."""
        return cls([[] for _ in range(members)], [[] for _ in range(members)])

    @property
    def seconds(self) -> float:
        """All that were spent on it."""
        return self.earlier + time.perf_counter() - self._clock


class Checkpoints:
    """Those of one run, whose packs come one after another."""

    def __init__(self, keeper: Keeper | None = None, every_s: float = EVERY_S) -> None:
        """Without a keeper nothing is kept, and nothing found."""
        self._keeper, self._every_s = keeper, every_s
        self._saved, self._took = time.monotonic(), 0.0
        self._measured: dict[str, dict[str, Any]] = {}

    def of(self, members: Sequence[Member], device: str, backend: str) -> "Checkpoint":
        """That of one pack, with what there is of it."""
        came_from = provenance(device, backend, len(members))
        # Whether there are changes says nothing about which; and git takes its time to find out.
        identity = {
            "members": [[member.trial.id, member.seed, member.model] for member in members],
            "threads": torch.get_num_threads(),
            **{name: value for name, value in came_from.items() if name != "git_dirty"},
        }
        name = f"{members[0].trial.id}-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]}.zip"
        content = self._keeper.load(name) if self._keeper else None
        return Checkpoint(self, name, identity, decoded(content) if content is not None else None)

    @property
    def due(self) -> bool:
        """Whether it is time to keep something."""
        every = self._every_s * max(1.0, self._took / KEPT_IN_S)
        return self._keeper is not None and time.monotonic() - self._saved >= every

    def save(self, name: str, tree: dict[str, Any]) -> None:
        """Keep a pack in training, and all that have been measured since anything was kept."""
        if self._keeper:
            began = time.monotonic()
            for each, kept in {**self._measured, name: tree}.items():
                self._keeper.save(each, encoded(kept))
            self._measured.clear()
            self._saved = time.monotonic()
            self._took = self._saved - began

    def measured(self, name: str, tree: dict[str, Any]) -> None:
        """Take a pack's records, to be kept with the next one in training; after the last they are written anyway."""
        self._measured[name] = tree


class Checkpoint:
    """That of one pack.

    Attributes:
        records: the tables of each member, if it has been measured.
    """

    def __init__(self, run: Checkpoints, name: str, identity: Row, found: Any) -> None:
        self._run, self._name, self._identity = run, name, identity
        self._found = found if isinstance(found, dict) and found.get("identity") == identity else {}
        self.records = self._measured(len(identity["members"]))

    def _measured(self, members: int) -> list[Tables] | None:
        records = self._found.get("records")
        whole = isinstance(records, list) and len(records) == members and all(map(_is_record, records))
        return records if whole else None

    def resume(self, course: Course, training: Training) -> None:
        """Go on with what there is of the pack: both are put where they were, or left as they are."""
        found, self._found = self._found, {}
        try:
            kept, state = found["course"], found["training"]
            for each in ("epochs", "layers"):
                if len(kept[each]) != len(course.epochs):
                    raise ValueError(f"the {each} are those of other members")
            for member, best in kept["best"]:
                shapes = [(tensor.shape, tensor.dtype) for tensor in state["networks"][member]]
                if [(tensor.shape, tensor.dtype) for tensor in best] != shapes:
                    raise ValueError("the best state is that of another network")
            # Of the right kinds, too, before anything is put back.
            started, earlier = kept["started"].astimezone(UTC), float(kept["seconds"])
            training.restore(state)
        except Exception:  # the file may be wrong in any manner
            return
        course.epochs, course.layers, course.best = kept["epochs"], kept["layers"], dict(kept["best"])
        course.started, course.earlier = started, earlier

    def keep(self, course: Course, training: Training) -> None:
        """Keep the pack as it is after an epoch, if it is time."""
        if self._run.due:
            kept = {
                "epochs": course.epochs,
                "layers": course.layers,
                "best": list(course.best.items()),
                "started": course.started,
                "seconds": course.seconds,
            }
            self._run.save(self._name, {"identity": self._identity, "course": kept, "training": training.state()})

    def measured(self, records: Sequence[Tables]) -> None:
        """Take the tables of each member, which stand for the pack from now on."""
        self._run.measured(self._name, {"identity": self._identity, "records": list(records)})


def _is_record(tables: Any) -> bool:
    """Whether these are the tables of a member."""
    return (
        isinstance(tables, dict)
        and tables.keys() == SCHEMAS.keys()
        and isinstance(tables["samples"], pa.Table)
        and tables["samples"].schema.equals(SCHEMAS["samples"])
        and all(isinstance(rows, list) for name, rows in tables.items() if name != "samples")
        and len(tables["members"]) == 1
    )


def encoded(tree: Any) -> bytes:
    """A tree of JSON-like values, times, tensors and Arrow tables as one file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        with archive.open("bytes", "w", force_zip64=True) as stream:
            plain = _Bytes(stream).plain(tree)
        archive.writestr("tree.json", json.dumps(plain))
    return content.getvalue()


class _Bytes:
    """What of a tree is no JSON, on its way into a stream."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._written = stream, 0

    def plain(self, value: Any) -> Any:
        """The value as JSON, which says where in the stream the rest of it is."""
        if isinstance(value, Tensor):
            flat = value.detach().cpu().contiguous().flatten().view(torch.uint8)
            return {"tensor": self._put(flat.numpy()), "dtype": str(value.dtype), "shape": list(value.shape)}
        if isinstance(value, pa.Table):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, value.schema) as writer:
                writer.write_table(value)
            return {"table": self._put(sink.getvalue())}
        if isinstance(value, datetime):
            return {"time": value.isoformat()}
        if isinstance(value, dict):
            return {"dict": {name: self.plain(each) for name, each in value.items()}}
        if isinstance(value, list | tuple):
            return [self.plain(each) for each in value]
        return value

    def _put(self, part: Any) -> list[int]:
        start = self._written
        self._written += self._stream.write(part)
        return [start, self._written]


def decoded(content: bytes) -> Any:
    """The tree of a file, tuples as lists and tensors on the CPU; None where it is damaged or something else."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _rich(json.loads(archive.read("tree.json")), memoryview(archive.read("bytes")))
    except Exception:  # the file may be anyone's: it may be wrong in any manner
        return None


def _rich(value: Any, data: memoryview) -> Any:
    """The value that `_Bytes.plain` made this JSON of."""
    if isinstance(value, list):
        return [_rich(each, data) for each in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        dtype, part = getattr(torch, value["dtype"].removeprefix("torch.")), bytearray(data[slice(*value["tensor"])])
        flat = torch.frombuffer(part, dtype=dtype) if part else torch.empty(0, dtype=dtype)
        return flat.reshape(value["shape"])
    if "table" in value:
        return pa.ipc.open_stream(data[slice(*value["table"])]).read_all()
    if "time" in value:
        return datetime.fromisoformat(value["time"])
    return {name: _rich(each, data) for name, each in value["dict"].items()}
