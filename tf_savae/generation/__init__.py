"""What a trained model of text writes: samples, sentences it has read, and what lies between two of them."""
