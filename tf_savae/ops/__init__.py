"""Numerics under the networks and under the refinement."""
