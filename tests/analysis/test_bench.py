from analysis.bench import bench, trials


def test_a_small_benchmark_counts_and_times_everything():
    (found,) = bench(members=40, epochs=3).to_dict("records")
    assert (found["members"], found["curve_rows"]) == (40, 120)
    assert 0 < found["members_seconds"] + found["curves_seconds"] < found["seconds"]
    assert 0.05 < found["peak_gb"] < 2


def test_its_trials_are_cells_of_their_own():
    assert len({trial.cell for trial in trials(4000, 200)}) == 4000
