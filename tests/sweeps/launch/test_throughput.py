import pytest

from study.data.load import load
from study.speed.timings import Choice
from sweeps.launch import throughput
from sweeps.launch.launch import Cluster
from sweeps.launch.throughput import Throughput, Turns, measure_throughput, write_noise


def test_the_turns_of_the_best_pack_are_no_time_of_the_sweep():
    turns = [Turns(12.0, 4.0, 2.0, 400, 3.0), Turns(18.0, 6.0, 3.0, 600, 0.0)]
    found = Throughput(Choice("grouped", 16, 1.0), 2, 2400, 25.0, 35.0, 9.0, turns)
    assert found.alone == 100
    assert found.running == 2400 / (2 * 25 - 10)
    assert found.whole == 2400 / (2 * 35 - 10 - 3)
    # Threads that work trained 2400 samples in 30 s, and 1000 of the best pack's in 5 s.
    assert found.at_work == pytest.approx(80 / 200)


def test_the_images_are_as_many_and_as_large_as_is_said(tmp_path):
    write_noise(tmp_path / "noise")
    data = load(f"parquet:{tmp_path}/noise", "")
    assert (data.shape, data.classes) == (throughput.SHAPE, throughput.CLASSES)
    assert (len(data.train), len(data.test)) == (throughput.SAMPLES, throughput.TEST_SAMPLES)


@pytest.mark.slow
@pytest.mark.ray
def test_a_sweep_is_run_to_its_end_and_the_best_pack_has_a_turn_after_each_epoch(monkeypatch):
    monkeypatch.setattr(throughput, "SAMPLES", 600)
    told: list[float] = []
    found = measure_throughput(2, 3, 2, Cluster("local", 1, "cpu"), told.append)
    assert (found.trained, found.workers, told[-1]) == (2 * 5 * 3 * 600, 1, 1.0)
    a_pass = throughput.BATCHES * 256 * found.choice.members
    passes = sum(turns.samples for turns in found.turns) / a_pass
    # Trials train together or one by one, in as many packs as were timed to be fastest.
    assert passes % 3 == 0
    assert passes >= 3
    assert 0 < found.took < found.launched
    for turns in found.turns:
        assert min(turns.work, turns.alone, turns.alone_work) > 0
    assert sum(turns.setup > 0 for turns in found.turns) >= 1
