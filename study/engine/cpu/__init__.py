"""Compiled kernels that train small networks fast on a CPU."""
