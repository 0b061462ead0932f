"""The engine: many small networks trained side by side on one device."""

from study.engine.backends import BACKENDS, pack
from study.engine.pack import Pack, UnfitError

__all__ = ["BACKENDS", "Pack", "UnfitError", "pack"]
