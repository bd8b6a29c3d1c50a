"""Texts from a trained model: samples, reconstructions of sentences, and interpolations between two of them."""
