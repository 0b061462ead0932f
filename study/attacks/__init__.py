"""Attacks on all members of a pack at once: images are perturbed so that the networks no longer know them."""
