"""The command `python -m tf_savae.generate`; what it calls is in `tf_savae.generation`."""
