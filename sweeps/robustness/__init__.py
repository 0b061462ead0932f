"""The sweeps of *Batch Normalization is a Cause of Adversarial Vulnerability* (2019), one a file, and the panel."""
