"""The names that settings may have as values. No TensorFlow: tests compare them with what the package offers."""

from __future__ import annotations

TEXT = ("yahoo", "text")
IMAGES = ("omniglot",)
SYNTHETIC = ("synthetic",)
SEQUENCES = (*TEXT, *SYNTHETIC)
DATASETS = (*IMAGES, *TEXT, *SYNTHETIC)
ORACLES = ("lstm_input", "output_layer")
MODELS = ("autoreg", "vae", "svi", "vae_svi", "vae_svi_kl", "savae")
ADJOINTS = ("exact", "stored", "unrolled", "finite_difference", "truncated", "first_order")
PRESETS = ("paper", "small", "tiny")
# The decoders that a data set can have; `auto` is the first.
DECODERS = {
  "omniglot": ("pixelcnn",),
  "synthetic": ("lstm",),
  **dict.fromkeys(TEXT, ("lstm", "dilated_conv")),
}
DILATIONS = ("small", "medium", "large")  # `tf_savae.networks.dilated_conv` says which they are
