"""The shards of many trials in one file a table."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import pyarrow.parquet as pq

COMPACTED = "compact"
"""The folder of a sweep that has the shards of many trials in one file, `<name>.<table>.parquet`, and what says so."""
LEFT_AFTER_NS = 24 * 3600 * 10**9
Stamp = tuple[int, int]
"""The size of a file and the time of its last change in ns."""


@dataclass(frozen=True)
class Compacted:
    """The trials that files of many have, as their manifest `<name>.json` says.

    Attributes:
        name: the place among all of the sweep's, a later one coming later, and a hash.
        shards: by table and trial, the shard that was taken in.
    """

    name: str
    shards: Mapping[str, Mapping[str, Stamp]]

    def trials(self, table: str) -> frozenset[str]:
        """The trials that have rows of the table there."""
        return frozenset(self.shards.get(table, ()))


def row_groups_of(metadata: pq.FileMetaData, trials: Collection[str]) -> Iterator[int]:
    """The row groups that may have rows of the trials."""
    column = metadata.schema.names.index("trial")
    for group in range(metadata.num_row_groups):
        known = metadata.row_group(group).column(column).statistics
        if known is None or not known.has_min_max or any(known.min <= trial <= known.max for trial in trials):
            yield group
