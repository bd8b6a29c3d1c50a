"""Numerical operations that the networks and the refinement are built on."""
