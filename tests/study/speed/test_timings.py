import sys
from dataclasses import replace
from subprocess import run

import pytest

from study.speed import timings
from study.speed.timings import Choice, fastest
from study.trial import Trial

TRIAL, SHAPE = Trial(batch_size=4), (1, 16, 16)


def test_a_pack_has_no_more_members_than_there_are():
    timed = [Choice("single", 1, 1.0), Choice("grouped", 2, 0.8), Choice("grouped", 4, 0.5)]
    assert [fastest(timed, members).members for members in (1, 2, 3, 4, 99)] == [1, 2, 2, 4, 4]


@pytest.mark.parametrize(
    "settings", [{"norm": "none"}, {"batch_size": 8}, {"optimizer": "sgd"}, {"architecture": "vgg8"}]
)
def test_what_decides_the_speed_is_part_of_the_kind(settings):
    known = timings.key_of(TRIAL, SHAPE, 4)
    assert timings.key_of(replace(TRIAL, **settings), SHAPE, 4) != known


def test_what_is_read_needs_no_torch():
    reads = "import sys, study.speed.timings; sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", reads]).returncode == 0
