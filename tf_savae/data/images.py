"""Images of one size: grey values binarised anew for every training batch, or grey values and colours as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_savae.data.dataset import FIXED_SEED, SPLITS, DataSet, check_split
from tf_savae.data.image_arrays import Images, as_images
from tf_savae.errors import UserError
from tf_savae.observations import IMAGE, LABEL
from tf_savae.seeds import Purpose, stateless_seed


class ImageDataSet(DataSet):
  """Images, with pixel values in [0, 1].

  With `binarise`, a pixel's value is the probability of ink. A training image is drawn anew from these Bernoulli
  probabilities every time it is used (dynamic binarisation, Salakhutdinov & Murray 2008; Burda et al. 2015).
  Evaluation images are drawn once from a fixed seed, so that every run is measured on the same bits. Without it,
  models see the values.

  After `condition_on`, an example is {"image": …, "label": …}.

  Args:
    grey: for each split, an array `[n, height, width, channels]`, float32 in [0, 1] or uint8; or `Images`.
    binarise: whether values are probabilities of ink.

  Attributes:
    pixels: "binary" or "levels": whether models see 0 and 1, or values of 256 levels.
    image_shape: (height, width, channels).
    label_names: names of labels 0, 1, … of a conditional model's examples; empty: they have none.

  Example:
    >>> import numpy as np
    >>> from tf_savae.data import ImageDataSet
    >>> grey = {split: np.full([4, 8, 8, 1], 0.5, "float32") for split in ("train", "valid", "test")}
    >>> data = ImageDataSet(grey, name="grey", source="all grey", is_stand_in=True, seed=0)
    >>> data.examples("test", 2).shape
    (2, 8, 8, 1)
  """

  kind = "image"

  def __init__(
    self,
    grey: Mapping[str, Any],
    *,
    name: str,
    source: str,
    is_stand_in: bool,
    seed: int,
    binarise: bool = True,
  ):
    super().__init__(name=name, source=source, is_stand_in=is_stand_in, seed=seed)
    self._images: dict[str, Images] = {split: as_images(grey[split]) for split in SPLITS}
    self.image_shape = self._images["train"].shape[1:]
    self.pixels = "binary" if binarise else "levels"
    self.label_names: tuple[str, ...] = ()
    self._numbers: dict[str, tf.Tensor] = {}
    self._fixed: dict[str, tf.Tensor] = {}

  @property
  def num_labels(self) -> int:
    """How many labels a conditional model's examples have; 0: none."""
    return len(self.label_names)

  def condition_on(self, name: str = "label") -> ImageDataSet:
    """From now on examples are {"image": …, "label": …}, with one of the `labels` as numbers.

    Args:
      name: of the labels; "label" also means the only ones that there are.

    Returns:
      This data set.

    Raises:
      UserError: there are no such labels.
    """
    chosen = next(iter(self.labels)) if name == "label" and len(self.labels) == 1 else name
    if chosen not in self.labels:
      has = f"has labels called {', '.join(self.labels)}" if self.labels else "has no labels"
      raise UserError(
        f"--condition={name} needs a label called so for every image; the data set {self.name!r} {has}; pictures have"
        " one in folders named after it, and arrays in an array y_train, y_valid, y_test or labels"
      )
    words = {split: [str(word) for word in self.labels[chosen][split]] for split in SPLITS}
    names = sorted(set().union(*words.values()), key=_in_order)
    self.source += f"; given the {chosen}, one of {len(names)}"
    return self.set_condition(names, words)

  def set_condition(self, names: Sequence[str], words: Mapping[str, Sequence[str]]) -> ImageDataSet:
    """`condition_on` labels that are called `names` and are `words` of each split."""
    number = {word: i for i, word in enumerate(names)}
    self.label_names = tuple(names)
    with tf.device("CPU:0"):
      self._numbers = {
        split: tf.constant([number[word] for word in words[split]], tf.int32) for split in SPLITS
      }
    return self

  def num_examples(self, split: str) -> int:
    return len(self._images[check_split(split)])

  def grey(self, split: str, n: int) -> np.ndarray:
    """The first `n` images of `split` before binarisation, float32 `[n, height, width, channels]` in [0, 1]."""
    return self._images[check_split(split)].take(tf.range(min(n, self.num_examples(split)))).numpy()

  def _train_batch(self, rows: tf.Tensor, step: tf.Tensor) -> Any:
    images = self._images["train"].take(rows)
    if self.pixels == "binary":
      images = tf.cast(_binarise(images, stateless_seed(self.seed, step, Purpose.BINARISE)), tf.float32)
    return self._labelled(images, "train", rows)

  def _eval_batch(self, split: str, rows: tf.Tensor) -> Any:
    check_split(split)
    if self.pixels != "binary":
      images = self._images[split].take(rows)
    elif self._images[split].on_disk:
      images = tf.cast(_binarise_rows(self._images[split].take(rows), _fixed_seed(split), rows), tf.float32)
    else:
      images = tf.cast(tf.gather(self._binarised_once(split), rows), tf.float32)
    return self._labelled(images, split, rows)

  def _labelled(self, images, split, rows):
    return {IMAGE: images, LABEL: tf.gather(self._numbers[split], rows)} if self._numbers else images

  def _binarised_once(self, split: str) -> tf.Tensor:
    """The fixed binarisation that `split` is evaluated on, bool `[n, height, width, channels]`."""
    if split not in self._fixed:
      check_split(split)
      # Evaluation batches ask for this while their pipeline is being traced.
      with tf.init_scope(), tf.device("CPU:0"):
        images = self._images[split].take(tf.range(self.num_examples(split)))
        self._fixed[split] = _binarise(images, _fixed_seed(split))
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
  binarise: bool = True,
  labels: Sequence[Any] | None = None,
) -> ImageDataSet:
  """A data set of your own images.

  Args:
    train, valid, test: values in [0, 1] (1 = ink), each `[n, height, width]` or `[n, height, width, 1]`, all of one
      height and width. Binarisation leaves binary images as they are. Without it there may be 3 channels, of colour.
    source: one line that says where they came from.
    seed: the training run's seed.
    name: a short name for tables and logs.
    is_stand_in: whether they only stand in for the intended data.
    binarise: whether values are probabilities of ink, from which models see draws; else they see the values.
    labels: words or numbers for each image of train, valid and test, which `condition_on` can use.

  Raises:
    UserError: an array has another shape, is empty, or has values outside [0, 1].

  Returns:
    An `ImageDataSet`.

  Example:
    >>> import numpy as np
    >>> from tf_savae.data import images_from_arrays
    >>> grey = np.random.default_rng(0).random((9, 8, 8), np.float32)
    >>> data = images_from_arrays(grey[:5], grey[5:7], grey[7:], source="random")
    >>> data.num_examples("train"), data.image_shape
    (5, (8, 8, 1))
  """
  grey = {
    split: _checked(x, split, (1,) if binarise else (1, 3))
    for split, x in zip(SPLITS, (train, valid, test), strict=True)
  }
  sizes = {split: x.shape[1:] if not binarise else x.shape[1:3] for split, x in grey.items()}
  if len(set(sizes.values())) > 1:
    raise UserError(f"images of all splits must have one height and width. Received: {sizes}")
  data = ImageDataSet(grey, name=name, source=source, is_stand_in=is_stand_in, seed=seed, binarise=binarise)
  if labels is not None:
    data.labels = {LABEL: dict(zip(SPLITS, labels, strict=True))}
    for split, given in data.labels[LABEL].items():
      if len(given) != len(grey[split]):
        raise UserError(
          f"{split} has {len(grey[split])} images; received {len(given)} labels; give one for each"
        )
  return data


def split_rows(num_examples: int, *parts: int) -> list[np.ndarray]:
  """Divides rows 0 … n − 1, shuffled by a fixed seed, into consecutive pieces of the sizes `parts`."""
  seed = stateless_seed(FIXED_SEED, 0, Purpose.SPLIT)
  rows = tf.random.experimental.stateless_shuffle(tf.range(num_examples), seed).numpy()
  return np.split(rows, np.cumsum(parts)[:-1])


def _checked(images: np.ndarray, split: str, channels: Sequence[int]) -> np.ndarray:
  """`images` as float32 `[n, height, width, channels]`, after checking them."""
  images = np.asarray(images)
  if images.ndim == 3:
    images = images[..., np.newaxis]
  if images.ndim != 4 or images.shape[-1] not in channels or images.dtype.kind not in "fiub":
    last = "1" if len(channels) == 1 else "1 or 3"
    raise UserError(
      f"{split} images must be numbers of shape [n, height, width] or [n, height, width, {last}]. "
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


def _in_order(word: str) -> tuple[bool, int, str]:
  """Numbers in their order, before words."""
  return (not word.isdecimal(), int(word) if word.isdecimal() else 0, word)


def _fixed_seed(split: str) -> tf.Tensor:
  return stateless_seed(FIXED_SEED, SPLITS.index(split), Purpose.FIXED_BINARISE)


def _binarise(grey: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
  """Bool draws, true with probability `grey`. Pixels of 0 and 1 never change: the uniform draw is in [0, 1)."""
  return tf.random.stateless_uniform(tf.shape(grey), seed) < grey


def _binarise_rows(grey: tf.Tensor, seed: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
  """The same, each row with a draw that depends on its number alone."""

  def one(given):
    image, row = given
    return _binarise(image, tf.random.experimental.stateless_fold_in(seed, row))

  return tf.map_fn(one, (grey, rows), fn_output_signature=tf.TensorSpec(grey.shape[1:], tf.bool))
