"""Small trials, and their records as they are read from Parquet."""

from pathlib import Path

from study.record.results import Results
from study.record.rows import Records, Row
from study.record.schema import SCHEMAS
from study.trial import Trial

NOWHERE = Path("no data folder is needed")


def small_trial(**settings: object) -> Trial:
    return Trial.of({"k": 0.25, "epochs": 2, "batch_size": 8, "lr": 1e-3, **settings})


def read_back(records: Records, trial: Trial, folder: Path) -> dict[str, list[Row]]:
    results = Results.at(folder)
    results.write("sweep", trial.id, records.tables)
    return {table: results.read("sweep", table).to_pylist() for table in SCHEMAS}
