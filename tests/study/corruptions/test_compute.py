import numpy as np
import pytest
from skimage.util import random_noise

from study.corruptions import blur
from study.corruptions.compute import COMPUTED_BY, corrupt
from study.corruptions.names import COMPUTED, FAMILIES, SEVERITIES
from study.corruptions.pixels import Streams
from tests.study.corruptions.pictures import pictures

RISING = set(COMPUTED) - {"saturate", "elastic_transform", "glass_blur", "motion_blur"}
"""Those that change an image the more the higher the severity: the others' parameters do not rise together."""


def test_all_families_but_two_are_computed():
    assert tuple(COMPUTED_BY) == COMPUTED
    assert set(FAMILIES) - set(COMPUTED) == {"frost", "spatter"}
    assert len(set(FAMILIES)) == 19


@pytest.mark.parametrize("family", COMPUTED)
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 28, 28), (3, 32, 32), (3, 8, 8), (1, 20, 36)])
def test_images_of_any_size_and_of_one_or_three_channels_are_corrupted(family, channels, height, width):
    images = pictures(3, channels, height, width)
    before = images.copy()
    for severity in SEVERITIES:
        corrupted = corrupt(images, family, severity, range(3))
        assert corrupted.dtype == np.uint8
        assert corrupted.shape == images.shape
    assert (corrupted != images).any()
    assert (images == before).all()


@pytest.mark.parametrize("family", COMPUTED)
def test_an_image_is_corrupted_alike_in_any_batch(family, monkeypatch):
    images = pictures(9, 3, 32)
    together = corrupt(images, family, 5, range(100, 109))
    assert (together == corrupt(images, family, 5, range(100, 109))).all()
    apart = [corrupt(images[at : at + 1], family, 5, [100 + at]) for at in range(9)]
    assert (together == np.concatenate(apart)).all()
    monkeypatch.setattr("study.corruptions.compute.AT_ONCE", 4)
    assert (together == corrupt(images, family, 5, range(100, 109))).all()


DRAWN = {
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "glass_blur"),
    *("motion_blur", "snow", "fog", "elastic_transform"),
}
"""The families with random numbers."""


@pytest.mark.parametrize("family", COMPUTED)
def test_random_numbers_are_each_images_own(family):
    same = np.repeat(pictures(1, 3, 32), 3, axis=0)
    corrupted = corrupt(same, family, 3, [0, 1, 2])
    alike = [(corrupted[0] == corrupted[other]).all() for other in (1, 2)]
    assert alike == [family not in DRAWN] * 2


@pytest.mark.parametrize("family", sorted(RISING))
def test_the_severer_the_farther_from_the_image(family):
    images = pictures(32, 3, 48)[:, :, 16:, 16:]  # without the sharp squares in the corner
    differences = [corrupt(images, family, severity, range(32)).astype(int) - images for severity in SEVERITIES]
    distances = [np.sqrt(np.square(difference).mean()) for difference in differences]
    assert distances == sorted(distances)
    assert len(set(distances)) == 5


@pytest.mark.parametrize("family", [family for family in COMPUTED if not family.endswith("_noise")])
def test_a_grey_image_is_corrupted_as_one_of_three_equal_channels(family):
    grey = pictures(4, 1, 32)
    alone = corrupt(grey, family, 5, range(4)).astype(int)
    in_colour = corrupt(np.repeat(grey, 3, axis=1), family, 5, range(4))
    if family == "saturate":  # here what was grey is red
        in_colour = (in_colour * np.array([0.299, 0.587, 0.114])[:, None, None]).sum(axis=1, keepdims=True)
    off = np.abs(alone - in_colour)
    # JPEG rounds brightness and colours, and colours are rounded to bytes.
    assert off.max() <= {"jpeg_compression": 3, "saturate": 1.01}.get(family, 0)


def test_a_grey_image_has_no_colour_to_saturate():
    images = pictures(4, 1, 28)
    for severity in (1, 2, 3):
        assert (corrupt(images, "saturate", severity, range(4)) == images).all()
    for severity in (4, 5):  # what was grey takes on red, which is darker
        assert corrupt(images, "saturate", severity, range(4)).mean() < images.mean() - 5


# The laws of noise


def grey(level: int) -> np.ndarray:
    return np.full((50, 3, 32, 32), level, dtype=np.uint8)


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("level", [102, 128])
def test_noise_has_the_standard_deviation_of_its_severity(severity, level):
    value = level / 255
    spreads = {
        "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.1)[severity - 1],
        "speckle_noise": value * (0.06, 0.1, 0.12, 0.16, 0.2)[severity - 1],
        "shot_noise": (value / (500, 250, 100, 75, 50)[severity - 1]) ** 0.5,
    }
    for family, spread in spreads.items():
        noisy = corrupt(grey(level), family, severity, range(50)).astype(float)
        # Counts of photons are cut off to levels nearly as far apart, which is worth up to 2.1%.
        assert noisy.std() / 255 == pytest.approx(spread, rel=0.03)
        # Cut off and not rounded: half a level is lost.
        assert noisy.mean() == pytest.approx(level - 0.5, abs=4 * 255 * spread / noisy.size**0.5 + 0.1)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulses_are_as_many_as_scikit_image_strikes_and_black_as_often_as_white(severity):
    images = grey(100)
    struck = corrupt(images, "impulse_noise", severity, range(50))
    amount = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    theirs = random_noise(images / 255, mode="s&p", amount=amount, rng=0) * 255
    for level in (0, 255):
        share = (struck == level).mean()
        error = (amount / 2 / struck.size) ** 0.5
        assert share == pytest.approx(amount / 2, abs=4 * error)
        assert share == pytest.approx((theirs == level).mean(), abs=6 * error)
    assert set(np.unique(struck)) == {0, 100, 255}
    first, second = (struck[:, channel] != 100 for channel in (0, 1))
    assert (first & second).mean() < 3 * amount**2  # each channel by itself


def test_black_stays_black_under_noise_that_is_in_proportion():
    for family in ("shot_noise", "speckle_noise"):
        assert not corrupt(grey(0), family, 5, range(50)).any()


def test_lines_of_motion_lie_within_45_degrees_and_begin_at_the_pixel():
    dot = np.zeros((200, 1, 33, 33), dtype=np.uint8)
    dot[:, :, 16, 16] = 255
    rows, columns = np.nonzero(corrupt(dot, "motion_blur", 5, range(200)).max(axis=(0, 1)))
    # A pixel is the mean of what is right of it, so that a dot is drawn out to the left.
    assert columns.max() == 16
    assert columns.min() < 10
    assert (abs(rows - 16) <= 16 - columns + 1).all()
    assert {row < 16 for row in rows} == {True, False}


def test_a_disk_has_weight_one_and_a_radius():
    for radius, softness in COMPUTED_BY["defocus_blur"].parameters:
        kernel = blur.disk_kernel(radius, softness)
        assert kernel.sum() == pytest.approx(1)
        assert (kernel == kernel.T).all()
    assert (kernel[1:4, 1:4] > 0.11).all()


def test_streams_are_of_the_family_the_severity_and_the_image():
    drawn = {
        Streams(family, severity, [sample]).normal(1).item()
        for family in ("fog", "snow")
        for severity in (1, 2)
        for sample in (0, 1)
    }
    assert len(drawn) == 8
    many, one = Streams("fog", 1, [5, 6, 7]), Streams("fog", 1, [6])
    for draw in (lambda of: of.normal(4), lambda of: of.uniform(2, 3), lambda of: of.coins(5)):
        assert (draw(many)[1] == draw(one)[0]).all()
