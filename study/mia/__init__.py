"""Membership inference attacks on recorded scores, with NumPy and SciPy alone."""
