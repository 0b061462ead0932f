from types import SimpleNamespace

import matplotlib as mpl
import pytest

from analysis.figures import theme


@pytest.mark.parametrize(
    ("installed", "families"),
    [
        (["DejaVu Sans"], ["sans-serif"]),
        (["WenQuanYi Zen Hei", "DejaVu Sans", "Noto Sans CJK SC"], ["sans-serif", "Noto Sans CJK SC"]),
    ],
)
def test_letters_that_matplotlibs_font_lacks_are_drawn_with_one_that_is_installed(installed, families, monkeypatch):
    fonts = SimpleNamespace(ttflist=[SimpleNamespace(name=name) for name in installed])
    monkeypatch.setattr(theme.font_manager, "fontManager", fonts)
    assert theme.font_families() == families
    with theme.theme():
        assert mpl.rcParams["font.family"] == families
