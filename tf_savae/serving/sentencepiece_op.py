"""SentencePiece as an operation of TensorFlow Text, which TensorFlow Serving has too."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import tensorflow as tf

from tf_savae import startup
from tf_savae.errors import UserError, reason
from tf_savae.serving import c_loader


@functools.cache
def operations() -> ModuleType:
  """The operations, loaded from TensorFlow Text's library alone: the rest of that package is not imported.

  Raises:
    UserError: TensorFlow Text is not installed, or is of another version than TensorFlow.
  """
  startup.require_text()
  try:
    return tf.load_op_library(str(c_loader.sentencepiece_library()))
  except (tf.errors.OpError, OSError) as error:
    raise UserError(
      f"TensorFlow Text cannot be loaded ({reason(error)}); install the version of TensorFlow: pip install"
      f" tensorflow-text=={tf.__version__}"
    ) from error


class SentencePieces(tf.saved_model.experimental.TrackableResource):
  """A SentencePiece model in a graph; a module that holds it can be saved.

  Args:
    model: the serialised model.
  """

  def __init__(self, model: bytes):
    super().__init__()
    self._model = model
    _ = self.resource_handle  # made here, and not in the first graph that uses it

  def _create_resource(self) -> tf.Tensor:
    return operations().SentencepieceOp(model=self._model)

  def _initialize(self) -> None:
    """There is nothing to do once it exists."""

  def tokenize(self, sentences: tf.Tensor) -> tf.RaggedTensor:
    """Ids of the pieces of sentences `[batch]`, int32 `[batch, pieces]`."""
    options: dict[str, Any] = {"out_type": tf.int32, "Tsplits": tf.int64, "return_nbest": False}
    values, splits = operations().SentencepieceTokenizeOp(
      sp_handle=self.resource_handle,
      input=sentences,
      nbest_size=0,
      alpha=1.0,
      add_bos=False,
      add_eos=False,
      reverse=False,
      **options,
    )
    return tf.RaggedTensor.from_row_splits(values, splits, validate=False)
