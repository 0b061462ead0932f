"""Lenses: the measurements of trained members, one a file."""
