"""The results of tuning the regularizer: the trade-off, its figures, and the importance of parameters."""
