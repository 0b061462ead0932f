"""Datasets: loading, corruption and splits."""
