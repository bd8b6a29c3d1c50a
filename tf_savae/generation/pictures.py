"""Rows of images from a trained model: completions, walks along latents, and lines between two images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_savae import masks, observations
from tf_savae.evaluation import figures
from tf_savae.evaluation.posteriors import Inference
from tf_savae.generation.writer import line
from tf_savae.model import SAVAE

DRAWS = 3  # completions of each image
_UNSEEN = 0.5  # the shade of what was not seen


class Rows(NamedTuple):
  """Labelled rows of images of the same number, and a line of text about them."""

  images: dict[str, np.ndarray]
  text: str


def completion(model: SAVAE, x: Any, half: str, seed: int) -> Rows:
  """Images whose named half is drawn, with z from q at λ_0 and at λ_K of the half that was seen.

  Args:
    model: whose decoder has `log_prob_of_parts`.
    x: observations.
    half: "lower", "upper", "left" or "right".
    seed: of z and of the pixels.

  Raises:
    UserError: the decoder cannot tell parts of x apart.
  """
  image = observations.image_of(x)
  height, width = image.shape[1:3]
  seen = 1.0 - masks.of_half(half, height, width)
  rows = {"data": image, "seen": np.where(seen[..., np.newaxis] > 0, image, np.float32(_UNSEEN))}
  steps = (0, model.eval_k) if model.eval_k and model.latent_dim else (model.eval_k,)
  for k in steps:
    name = figures.lambda_name(k) if model.latent_dim else "drawn"
    for i in range(DRAWS if k == steps[-1] else 1):
      label = f"{name}, draw {i + 1}" if k == steps[-1] else name
      rows[label] = model.complete(x, seen, k=k, seed=seed + i).numpy()
  found = [float(tf.reduce_mean(-model.elbo(x, k=k, mask=seen))) for k in steps]
  values = ", ".join(
    f"{value:.2f} at {figures.lambda_name(k)}" if model.latent_dim else f"{value:.2f}"
    for k, value in zip(steps, found, strict=True)
  )
  return Rows(rows, f"the {half} half drawn; bound on −log p of what was seen, nats: {values}")


def interpolation(model: SAVAE, x: Any, points: int, seed: int = 0) -> Rows:
  """Between images 1 and 2, 3 and 4, …: images on the line of their posterior means.

  They are expected images, or, of an autoregressive decoder, draws. All draws of a line have the same noise, so that
  they differ by z alone. The label of a conditional model is that of the first image of a line.
  """
  image, means = observations.image_of(x), Inference(model)(x).centers
  first = np.arange(0, len(image) - 1, 2)
  start, rows = observations.take(x, first), {}
  z = [line(means[i], means[i + 1], points) for i in first]
  between = [_image(model, at, start, seed) for at in tf.unstack(tf.stack(z, axis=1))]
  for i, images in zip(first, np.stack(between, axis=1), strict=True):
    rows[f"{i + 1} to {i + 2}"] = np.concatenate([image[i : i + 1], images, image[i + 1 : i + 2]])
  return Rows(rows, f"data at both ends; between them the mean of q at {figures.lambda_name(model.eval_k)}")


def traversal(model: SAVAE, x: Any) -> Rows:
  """Walks along the most active latents from the posterior mean of the first image.

  Args:
    model: with a decoder that has `decode`.
    x: observations, of which all decide which latents are active.
  """
  means = Inference(model)(x).centers
  rows: Mapping[str, np.ndarray] = figures.traversal_rows(model, means, x, num=8)
  return Rows(dict(rows), "one latent from −3 to 3, the most active first")


def _image(model: SAVAE, z: tf.Tensor, x: Any, seed: int) -> np.ndarray:
  """Images `[n, height, width, channels]` at z `[n, latent]`, under the conditions of x."""
  # An autoregressive decoder's expected image takes each pixel given the likelier values before it: often a blank.
  is_autoregressive = hasattr(model.decoder, "complete")
  if hasattr(model.decoder, "decode") and not is_autoregressive:
    return model.decode(z, **model.given(x)).numpy()
  return figures.draw(model, z, seed, x)
