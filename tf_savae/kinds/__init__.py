"""The built-in kinds of data, one class per kind; see `tf_savae.kind`."""
