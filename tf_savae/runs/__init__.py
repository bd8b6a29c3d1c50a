"""What a run is: its settings, its directory, its checkpoints, and the model that they make."""
