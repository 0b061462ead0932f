"""Training: the loop, optimizers, precision, early stopping and checkpoints."""
