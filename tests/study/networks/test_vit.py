import pytest

from study.errors import BadInputError
from study.networks import build
from study.networks.catalog import NORMS, TOKEN_NORMS
from tests.study.networks.examples import IMAGE, noise


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm not in TOKEN_NORMS])
def test_a_transformer_refuses_norms_over_pixels_and_says_what_to_use(norm):
    with pytest.raises(BadInputError, match=f"no pixels for norm={norm}: use norm=layer, none or rms"):
        build.build("vit", IMAGE, 10, norm, seed=0)


def test_a_transformer_without_norms_has_none():
    names = {type(layer).__name__ for layer in build.build("vit", IMAGE, 10, "none", seed=0).modules()}
    assert not [name for name in names if "Norm" in name]
    assert "TokenRMSNorm" in {type(layer).__name__ for layer in build.build("vit", IMAGE, 10, "rms", seed=0).modules()}


def test_the_first_logits_of_a_transformer_are_zero_in_every_arm():
    for norm in TOKEN_NORMS:
        assert not build.build("vit", IMAGE, 10, norm, seed=0).eval()(noise()).any()
