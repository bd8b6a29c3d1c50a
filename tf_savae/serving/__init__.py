"""Exports a trained model as a SavedModel for TensorFlow Serving, and queries the server."""
