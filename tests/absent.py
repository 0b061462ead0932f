"""Python as it is on a machine where some packages are not installed."""


def without(*packages: str) -> str:
    """The code that has a fresh Python find none of these packages, whatever is installed here."""
    return f"""
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in {packages!r} else super().find_spec(name, path, target)

sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
"""
