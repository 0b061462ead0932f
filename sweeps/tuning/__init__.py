"""The search for the regularizer's alpha."""
