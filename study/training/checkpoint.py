"""Checkpoints of the packs of a long trial, so that a trial that was stopped goes on as if it had not been.

A pack in training is saved as its networks with their running statistics, its optimizer's state, and the rows recorded
so far. A pack that has been measured is saved as its records. The name of a checkpoint stands for everything that
decides the numbers, so a pack with other settings, on another device or of other code begins anew.

A checkpoint is a ZIP archive of a JSON tree and of the bytes of the tensors and tables in it. The archive's checksums
reveal damage. It holds no pickles, because a results folder may come from anyone. A checkpoint that can't be used is no
error: the pack begins anew.
"""

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any

import pyarrow as pa
import torch
from torch import Tensor

from study.record.checkpoints import CheckpointStore
from study.record.provenance import provenance
from study.record.rows import Measurements, Records, Row, Rows
from study.record.schema import SCHEMAS
from study.training.early_stopping import State
from study.training.loop import Member, Training

SAVE_EVERY_S = 180.0
"""The least seconds between two checkpoints of a run."""
SAVE_TAKES_S = 9.0
"""The seconds that a checkpoint may take to save: where it takes longer, checkpoints are rarer in proportion."""

Tables = dict[str, Rows]


@dataclass
class PackProgress:
    """What has been recorded of a pack while it trains.

    Attributes:
        records: the rows of each member so far.
        kept: the state in which a member is measured, by its position, where early stopping or convergence asks for it.
        started: when training began.
        earlier: the seconds that processes before this one spent on the pack.
        notes: what a lens that takes long has found when training has ended; see `study.lenses.trained.Trained`.
    """

    records: list[Records]
    notes: dict[str, Any] = field(default_factory=dict)
    kept: dict[int, State] = field(default_factory=dict)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    earlier: float = 0.0
    _clock: float = field(default_factory=time.perf_counter)

    @classmethod
    def begin(cls, members: int) -> "PackProgress":
        """Return the progress of a pack of so many members that begins now."""
        return cls([Records() for _ in range(members)])

    def add(self, measurements: Measurements, epoch: int, step: int) -> None:
        """Record what was measured of members after an epoch, or of networks that aren't trained, at epoch 0."""
        for member, measured in measurements.items():
            curve = {"epochs": [{"step": step, **measured.epochs}]} if measured.epochs else {}
            rows = {**curve, **measured.tables}
            self.records[member].extend({name: [{"epoch": epoch, **row} for row in rows[name]] for name in rows})

    def curve(self, member: int) -> list[Row]:
        """Return the rows of `epochs` of a member."""
        rows: list[Row] = self.records[member].tables["epochs"]
        return rows

    @property
    def seconds(self) -> float:
        """The seconds that were spent on the pack."""
        return self.earlier + time.perf_counter() - self._clock


class Checkpoints:
    """The checkpoints of one run, whose packs train one after another."""

    def __init__(self, store: CheckpointStore | None = None, every_s: float = SAVE_EVERY_S) -> None:
        """Without a store nothing is saved or loaded."""
        self._store, self._every_s = store, every_s
        self._saved, self._took = time.monotonic(), 0.0
        self._measured: dict[str, dict[str, Any]] = {}

    def of(self, members: Sequence[Member], device: str, backend: str) -> "Checkpoint":
        """Return the checkpoint of one pack, with whatever was saved of it before."""
        origin = provenance(device, backend, len(members))
        # `git_dirty` says that the code was changed but not how, and git takes long to find it out.
        identity = {
            "members": [[member.trial.id, member.seed, member.model] for member in members],
            "threads": torch.get_num_threads(),
            **{name: value for name, value in origin.items() if name != "git_dirty"},
        }
        name = f"{members[0].trial.id}-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]}.zip"
        content = self._store.load(name) if self._store else None
        return Checkpoint(self, name, identity, decode(content) if content is not None else None)

    @property
    def due(self) -> bool:
        """Whether it is time to save another checkpoint."""
        every = self._every_s * max(1.0, self._took / SAVE_TAKES_S)
        return self._store is not None and time.monotonic() - self._saved >= every

    def save(self, name: str, tree: dict[str, Any]) -> None:
        """Save a pack in training, and the records of the packs that were measured since the last save."""
        if self._store:
            began = time.monotonic()
            for pack, content in {**self._measured, name: tree}.items():
                self._store.save(pack, encode(content))
            self._measured.clear()
            self._saved = time.monotonic()
            self._took = self._saved - began

    def add_records(self, name: str, tree: dict[str, Any]) -> None:
        """Hold the records of a measured pack, to be saved together with the next pack in training.

        After the last pack there is no need to: the trial's records are written.
        """
        self._measured[name] = tree


class Checkpoint:
    """The checkpoint of one pack.

    Attributes:
        records: the tables of each member, if the pack has been measured already; else None.
    """

    def __init__(self, run: Checkpoints, name: str, identity: Row, saved: Any) -> None:
        self._run, self._name, self._identity = run, name, identity
        self._saved = saved if isinstance(saved, dict) and saved.get("identity") == identity else {}
        records = self._saved.get("records")
        members = len(identity["members"])
        usable = isinstance(records, list) and len(records) == members and all(map(_is_record, records))
        self.records: list[Tables] | None = records if usable else None

    def resume(self, progress: PackProgress, training: Training) -> None:
        """Put the pack back to where it was saved, or leave it as it is where there is no checkpoint of use."""
        saved, self._saved = self._saved, {}
        try:
            earlier, state = saved["progress"], saved["training"]
            if len(earlier["tables"]) != len(progress.records) or not all(map(_are_tables, earlier["tables"])):
                raise ValueError("the rows belong to other members")
            for member, kept in earlier["kept"]:
                shapes = [(tensor.shape, tensor.dtype) for tensor in state["networks"][member]]
                if [(tensor.shape, tensor.dtype) for tensor in kept] != shapes:
                    raise ValueError("the state that was kept belongs to another network")
            # These must be of the right types, too, before anything is put back.
            started, seconds = earlier["started"].astimezone(UTC), float(earlier["seconds"])
            notes = dict(earlier["notes"])
            training.restore(state)
        except Exception:  # the file may be wrong in any manner
            return
        progress.records, progress.kept = [Records(tables) for tables in earlier["tables"]], dict(earlier["kept"])
        progress.started, progress.earlier, progress.notes = started, seconds, notes

    def save_if_due(self, progress: PackProgress, training: Training) -> None:
        """Save the pack as it is after an epoch, if it is time to."""
        if self._run.due:
            content = {
                "tables": [records.tables for records in progress.records],
                "kept": list(progress.kept.items()),
                "notes": progress.notes,
                "started": progress.started,
                "seconds": progress.seconds,
            }
            self._run.save(self._name, {"identity": self._identity, "progress": content, "training": training.state()})

    def add_records(self, records: Sequence[Tables]) -> None:
        """Replace the pack in training by the tables of its members, now that it has been measured."""
        self._run.add_records(self._name, {"identity": self._identity, "records": list(records)})


def _is_record(tables: Any) -> bool:
    """Whether an object is the tables of one member that has been measured."""
    return _are_tables(tables) and len(tables["members"]) == 1


def _are_tables(tables: Any) -> bool:
    """Whether an object is tables of a record, with rows or without."""
    return (
        isinstance(tables, dict)
        and tables.keys() == SCHEMAS.keys()
        and all(
            isinstance(rows, list) or (isinstance(rows, pa.Table) and rows.schema.equals(SCHEMAS[table]))
            for table, rows in tables.items()
        )
    )


def encode(tree: Any) -> bytes:
    """Encode a tree of JSON-like values, times, tensors and Arrow tables as the bytes of one file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        with archive.open("bytes", "w", force_zip64=True) as stream:
            encoder = _Encoder(stream)
            json_tree = encoder.to_json(tree)
        archive.writestr("tree.json", json.dumps(json_tree))
    return content.getvalue()


class _Encoder:
    """Turns a tree into JSON, and writes the bytes of its tensors and tables into a stream."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._position = stream, 0

    def to_json(self, value: Any) -> Any:
        """Return the value as JSON, which says where in the stream the bytes of tensors and tables are."""
        if isinstance(value, Tensor):
            flat = value.detach().cpu().contiguous().flatten().view(torch.uint8)
            return {"tensor": self._write(flat.numpy()), "dtype": str(value.dtype), "shape": list(value.shape)}
        if isinstance(value, pa.Table):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, value.schema) as writer:
                writer.write_table(value)
            return {"table": self._write(sink.getvalue())}
        if isinstance(value, datetime):
            return {"time": value.isoformat()}
        if isinstance(value, dict):
            return {"dict": {name: self.to_json(branch) for name, branch in value.items()}}
        if isinstance(value, list | tuple):
            return [self.to_json(branch) for branch in value]
        return value

    def _write(self, content: Any) -> list[int]:
        """Write bytes into the stream, and return where they start and end."""
        start = self._position
        self._position += self._stream.write(content)
        return [start, self._position]


def decode(content: bytes) -> Any:
    """Decode the tree of a file, tuples as lists and tensors on the CPU; None where it is damaged or no checkpoint."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _from_json(json.loads(archive.read("tree.json")), memoryview(archive.read("bytes")))
    except Exception:  # the file may come from anyone, and may be wrong in any manner
        return None


def _from_json(value: Any, data: memoryview) -> Any:
    """Return the value that `_Encoder.to_json` turned into this JSON."""
    if isinstance(value, list):
        return [_from_json(branch, data) for branch in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        dtype, content = getattr(torch, value["dtype"].removeprefix("torch.")), bytearray(data[slice(*value["tensor"])])
        flat = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        return flat.reshape(value["shape"])
    if "table" in value:
        return pa.ipc.open_stream(data[slice(*value["table"])]).read_all()
    if "time" in value:
        return datetime.fromisoformat(value["time"])
    return {name: _from_json(branch, data) for name, branch in value["dict"].items()}
