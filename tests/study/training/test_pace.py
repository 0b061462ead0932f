from study.training.pace import Pace


def test_lenses_that_take_long_count_as_epochs():
    told: list[float] = []
    pace = Pace(told.append, 3, 1.0)
    for epoch in (1, 2, 3):
        pace.epoch(epoch)
    pace.lens(0.5)
    pace.lens(0.5)
    pace.end()
    assert told == [0.25, 0.5, 0.75, 0.875, 1.0]


def test_the_end_is_said_once_whoever_has_said_it():
    told: list[float] = []
    Pace(told.append, 4, 0.0, before=4).end()
    assert told == []
    pace = Pace(told.append, 4, 0.0, before=2)
    pace.epoch(3)
    pace.end()
    assert told == [0.75, 1.0]


def test_networks_that_are_not_trained_are_done_at_once():
    told: list[float] = []
    pace = Pace(told.append, 0, 0.0)
    pace.end()
    assert told == [1.0]
