"""The built-in kinds of data, a class each; see `tf_savae.kind`."""
