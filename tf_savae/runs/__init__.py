"""A run: its settings, its directory, its checkpoints, and the model built from them."""
