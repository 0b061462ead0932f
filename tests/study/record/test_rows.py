from study.record.results import Results
from study.record.rows import failed
from study.trial import Trial


def test_a_trial_that_could_not_be_run_is_recorded_with_its_reason(tmp_path):
    trial = Trial(dataset="cifar10", k=0.1, norm="none", seed=(1, 4))
    results = Results.at(tmp_path)
    results.write("sweep", trial.id, failed(trial, "the disk\nis full").tables)
    rows = results.read("sweep", "members").to_pylist()
    assert [(row["trial"], row["member"], row["seed"]) for row in rows] == [(trial.id, 0, 1), (trial.id, 1, 4)]
    for row in rows:
        assert (row["status"], row["error"]) == ("failed", "the disk\nis full")
        assert (row["dataset"], row["norm"], row["k"], row["cell"]) == ("cifar10", "none", 0.1, trial.cell)
        assert {row[name] for name in ("mem_acc", "clean_acc", "test_loss", "mia_auc", "epoch")} == {None}
        assert row["versions"] is not None


def test_the_dataset_of_a_folder_is_recorded_by_its_content(tmp_path):
    folder = tmp_path / "flowers"
    folder.mkdir()
    (folder / "train-0.parquet").write_bytes(b"any")
    trial = Trial(dataset=f"parquet:{folder}", k=0.1)
    (row,) = failed(trial, "no images").members
    assert row["dataset"].startswith("parquet:flowers@")
    assert str(tmp_path) not in row["dataset"]
