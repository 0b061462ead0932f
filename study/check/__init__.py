"""The check of a device: whether it computes right, whether its numbers repeat, and what the engine gains on it."""
