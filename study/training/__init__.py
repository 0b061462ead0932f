"""Training: the loop, optimizers, precision, determinism, early stopping and checkpoints."""
