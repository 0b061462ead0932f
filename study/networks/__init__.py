"""Networks, their norms and the penalty on gamma/sigma."""
