"""The audit of the statistics: simulations of a known truth, each put through what the analysis calls."""
