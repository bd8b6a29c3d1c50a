"""The overview picture of a run with images: data beside what the model makes of them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import tensorflow as tf

from tf_savae import observations
from tf_savae.data.dataset import DataSet
from tf_savae.evaluation import figures
from tf_savae.evaluation.posteriors import Inference
from tf_savae.model import SAVAE
from tf_savae.objective import precompute
from tf_savae.seeds import Purpose, stateless_seed

_DRAWS = 64  # of a mean over drawings
_MEAN_PIXELS = 10 * 64 * 1024  # of all drawings of a mean together; larger images have no such row


def save(
  model: SAVAE, data: DataSet, path: str | os.PathLike[str], *, split: str = "test", n: int = 10
) -> None:
  """Writes a picture of a model of images: data, and what its decoder draws from λ_0, λ_K and the prior.

  Args:
    model: a trained model.
    data: image data; the picture says so if they are a stand-in.
    path: the PNG file to write.
    split: the split that the examples come from.
    n: examples per row.

  Raises:
    ValueError: the data are not images.
  """
  x = data.examples(split, n)
  shape = observations.image_of(x).shape
  if len(shape) != 4:
    raise ValueError(f"Only images can be drawn. Received: {data.kind} of shape {list(shape)}")
  posteriors = Inference(model)(x) if model.latent_dim else None
  rows = figures.reconstruction_rows(model, x, posteriors)
  rows = {name if name == "data" else f"drawn at {name}": images for name, images in rows.items()}
  if posteriors is not None:
    rows |= _code_rows(model, x, posteriors.centers)
  if hasattr(model.decoder, "sample"):
    rows["prior samples" if model.latent_dim else "samples"] = model.sample(n).numpy()
  figures.save(figures.image_rows(rows, title="stand-in data" if data.is_stand_in else ""), path)


def mean_drawings(model: SAVAE, z: Any, x: Any = None, num: int = _DRAWS) -> np.ndarray | None:
  """The mean of `num` images x ~ p_θ(x | z) for each z `[n, latent]`: an estimate of E[x | z].

  It shows what the code alone says. An autoregressive decoder makes up the rest anew in each drawing.

  Args:
    model: the model.
    z: `[n, latent]`.
    x: as for `draw`.
    num: drawings per mean.

  Returns:
    `[n, height, width, channels]`, or None if the decoder cannot sample.
  """
  if not hasattr(model.decoder, "sample"):
    return None
  rows = np.repeat(np.arange(len(z)), num)
  images = figures.draw(model, np.asarray(z)[rows], x=None if x is None else observations.take(x, rows))
  return images.reshape(len(z), num, *images.shape[1:]).mean(axis=1)  # type: ignore[union-attr] # it can sample


def next_pixel_probabilities(model: SAVAE, x: Any, z: Any) -> np.ndarray | None:
  """p_θ(x_i = 1 | z, all pixels before i as they are in x), `[n, height, width, 1]`, for z `[n, latent]`.

  This is what the bound measures. The true pixels before give away most of it, so it looks like x whatever z says.

  Returns:
    The probabilities, or None if the images are not binary or the decoder does not give the parts of log p(x | z).
  """
  parts, image = getattr(model.decoder, "log_prob_of_parts", None), observations.image_of(x)
  support = getattr(getattr(model.decoder, "likelihood", None), "support", observations.BINARY)
  if parts is None or support != observations.BINARY or not np.isin(image, (0, 1)).all():
    return None
  x = tf.nest.map_structure(tf.convert_to_tensor, x)
  context = precompute(model.decoder, x, False, stateless_seed(model.seed, 0, Purpose.GENERATE))
  of_value = np.exp(parts(x, tf.convert_to_tensor(z), context).numpy())
  return np.where(image == 1, of_value, 1 - of_value)


def _code_rows(model: SAVAE, x: Any, z: Any) -> dict[str, np.ndarray]:
  """Rows for `image_rows` of what codes z at λ_K say of the images x: alone, and beside the true pixels before."""
  rows, name, decoder = {}, figures.lambda_name(model.eval_k), model.decoder
  if not hasattr(decoder, "complete"):  # pixels are independent given z
    if hasattr(decoder, "sample") and hasattr(decoder, "decode"):
      rows[f"expected at {name}"] = model.decode(tf.convert_to_tensor(z), **model.given(x)).numpy()
    return rows
  if _DRAWS * observations.image_of(x)[..., 0].size <= _MEAN_PIXELS:
    mean = mean_drawings(model, z, x)
    if mean is not None:
      label = f"mean of {_DRAWS} drawn\nat {name}"
      if mean.shape[-1] == 1:  # faint, since no two drawings agree: the darkest pixel is made black
        factor = 1 / max(mean.max(), 1e-3)
        mean, label = factor * mean, f"{label}, ×{factor:.1f}"
      rows[label] = mean
  probabilities = next_pixel_probabilities(model, x, z)
  if probabilities is not None:
    rows[f"P(ink) at {name}, with\ntrue pixels before"] = probabilities
  return rows
