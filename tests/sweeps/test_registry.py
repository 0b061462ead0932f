import pytest

from study.errors import BadInputError
from sweeps import registry
from sweeps.sweep import Scale


@pytest.mark.parametrize("name", registry.SWEEPS)
@pytest.mark.parametrize("scale", Scale)
def test_every_sweep_has_trials_at_both_scales_and_a_question(name: str, scale: Scale):
    sweep = registry.sweep(name)
    assert sweep.plan(scale).members > 0
    assert sweep.question.endswith("?")


@pytest.mark.parametrize("name", registry.SWEEPS)
def test_the_quick_scale_needs_no_download(name: str):
    assert {trial.dataset for trial in registry.sweep(name).plan(Scale.quick).trials} == {"digits"}


def test_an_unknown_sweep_names_the_nearest():
    with pytest.raises(BadInputError, match="did you mean 'quickstart'"):
        registry.sweep("quikstart")
