"""From a trained model to a SavedModel that TensorFlow Serving answers with."""
