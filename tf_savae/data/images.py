"""Grey images, binarised anew for every training batch, and once for evaluation."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tf_savae.data.dataset import FIXED_SEED, SPLITS, DataSet, check_split
from tf_savae.errors import UserError
from tf_savae.seeds import Purpose, stateless_seed


class ImageDataSet(DataSet):
  """Grey images whose pixel value is the probability of ink.

  A training image is drawn anew from these Bernoulli probabilities every time it is used (dynamic
  binarisation, Salakhutdinov & Murray 2008; Burda et al. 2015). Evaluation images are drawn once from a fixed
  seed, so that every run is measured on the same bits.

  Args:
    grey: for each split, float32 `[n, height, width, 1]` in [0, 1].
  """

  kind = "image"

  def __init__(self, grey: dict[str, np.ndarray], *, name: str, source: str, is_stand_in: bool, seed: int):
    super().__init__(name=name, source=source, is_stand_in=is_stand_in, seed=seed)
    self.image_shape = grey["train"].shape[1:]
    # One tensor per split, in host memory even when a GPU is visible: batches are gathered from it.
    with tf.device("CPU:0"):
      self._grey = {split: tf.constant(grey[split], tf.float32) for split in SPLITS}
    self._fixed: dict[str, tf.Tensor] = {}

  def num_examples(self, split: str) -> int:
    return int(self._grey[check_split(split)].shape[0])

  def grey(self, split: str, n: int) -> np.ndarray:
    """The first `n` images of `split` before binarisation, float32 `[n, height, width, 1]` in [0, 1]."""
    return self._grey[check_split(split)][:n].numpy()

  def _train_batch(self, rows: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    ink = _binarise(tf.gather(self._grey["train"], rows), stateless_seed(self.seed, step, Purpose.BINARISE))
    return tf.cast(ink, tf.float32)

  def _eval_batch(self, split: str, rows: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.gather(self._binarised_once(split), rows), tf.float32)

  def _binarised_once(self, split: str) -> tf.Tensor:
    """The fixed binarisation that `split` is evaluated on, bool `[n, height, width, 1]`."""
    if split not in self._fixed:
      check_split(split)
      # Evaluation batches ask for this while their pipeline is being traced.
      with tf.init_scope(), tf.device("CPU:0"):
        seed = stateless_seed(FIXED_SEED, SPLITS.index(split), Purpose.FIXED_BINARISE)
        self._fixed[split] = _binarise(self._grey[split], seed)
    return self._fixed[split]


def images_from_arrays(
  train: np.ndarray,
  valid: np.ndarray,
  test: np.ndarray,
  *,
  source: str,
  seed: int = 0,
  name: str = "images",
  is_stand_in: bool = False,
) -> ImageDataSet:
  """A data set of your own images.

  Args:
    train, valid, test: grey values in [0, 1] (1 = ink), each `[n, height, width]` or `[n, height, width, 1]`,
      all of one height and width. Binarisation leaves binary images as they are.
    source: one line that says where they came from.
    seed: the training run's seed.
    name: a short name for tables and logs.
    is_stand_in: whether they only stand in for the intended data.

  Raises:
    UserError: an array has another shape, is empty, or has values outside [0, 1].
  """
  grey = {split: _as_grey(x, split) for split, x in zip(SPLITS, (train, valid, test), strict=True)}
  sizes = {split: x.shape[1:3] for split, x in grey.items()}
  if len(set(sizes.values())) > 1:
    raise UserError(f"images of all splits must have one height and width. Received: {sizes}")
  return ImageDataSet(grey, name=name, source=source, is_stand_in=is_stand_in, seed=seed)


def split_rows(num_examples: int, *parts: int) -> list[np.ndarray]:
  """Divides rows 0 … n − 1, shuffled by a fixed seed, into consecutive pieces of the sizes `parts`."""
  seed = stateless_seed(FIXED_SEED, 0, Purpose.SPLIT)
  rows = tf.random.experimental.stateless_shuffle(tf.range(num_examples), seed).numpy()
  return np.split(rows, np.cumsum(parts)[:-1])


def _as_grey(images: np.ndarray, split: str) -> np.ndarray:
  """`images` as float32 `[n, height, width, 1]`, after checking them."""
  images = np.asarray(images)
  if images.ndim == 3:
    images = images[..., np.newaxis]
  if images.ndim != 4 or images.shape[-1] != 1 or images.dtype.kind not in "fiub":
    raise UserError(
      f"{split} images must be numbers of shape [n, height, width] or [n, height, width, 1]. "
      f"Received: {images.dtype} {list(images.shape)}"
    )
  if images.size == 0:
    raise UserError(f"no {split} images: at least one is needed. Received: shape {list(images.shape)}")
  images = images.astype(np.float32)
  low, high = images.min(), images.max()
  if not (low >= 0 and high <= 1):  # also refuses NaN
    raise UserError(
      f"{split} images must be grey values in [0, 1] (divide by 255?). Received: from {low:g} to {high:g}"
    )
  return images


def _binarise(grey: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
  """Bool draws, true with probability `grey`. Pixels of 0 and 1 never change: the uniform draw is in [0, 1)."""
  return tf.random.stateless_uniform(tf.shape(grey), seed) < grey
