"""How fast members train, and the choice of what trains them fastest."""
