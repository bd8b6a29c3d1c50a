"""Experiments of the paper that one command repeats, and what they found."""
