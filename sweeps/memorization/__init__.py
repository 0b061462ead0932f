"""The sweeps of *Batch Normalization Amplifies Memorization and Privacy Risks* (2026), one a file."""
