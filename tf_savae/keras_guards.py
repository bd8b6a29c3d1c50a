"""A Keras model that says so where a feature of Keras's `compile`, `fit` or `export` is not for it."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_savae import observations, precision, strategy_checks
from tf_savae.errors import UserError
from tf_savae.metrics import LossTracker

_OWN_LOSS = "the training method is the loss, by itself: choose it by SAVAE(method=…)"
_OWN_METRICS = (
  "a SAVAE reports loss, bound, nll and kl by itself; for others, compare x with"
  " model.decode(model.refine(x).mean), such as in a callback"
)
_REFUSED = {
  "loss": _OWN_LOSS,
  "loss_weights": _OWN_LOSS,
  "metrics": _OWN_METRICS,
  "weighted_metrics": _OWN_METRICS + "; sample_weight weighs its own metrics",
}


class GuardedModel(keras.Model):
  """What Keras's entry points check and prepare before a `SAVAE` trains, evaluates or predicts."""

  def __init__(self, *, dtype: Any = None, **kwargs: Any):
    if precision.holds_half(dtype):
      raise UserError(f"λ is float32 or float64; received dtype={dtype!r}; give a mixed policy, or none")
    super().__init__(dtype=precision.default(dtype), **kwargs)
    self._seen = frozenset()  # ids of data sets whose first batch was looked at

  def compile(self, optimizer: Any = "rmsprop", loss: Any = None, **kwargs: Any) -> None:
    """Keras's `compile`, without loss and metrics: raises UserError for them, and changes nothing then."""
    for name, remedy in _REFUSED.items():
      value = loss if name == "loss" else kwargs.get(name)
      if value is not None and not (isinstance(value, (list, tuple, dict)) and not value):
        raise UserError(f"compile takes no {name}; received {value!r}; {remedy}")
    kwargs = {name: value for name, value in kwargs.items() if name not in _REFUSED}
    strategy_checks.check_place(self)
    strategy_checks.check_lagging(self, optimizer)
    if self._distribute_strategy is None:
      super().compile(optimizer=optimizer, **kwargs)
      return
    strategy_checks.check_compile(self, optimizer, kwargs)
    with self.distribute_strategy.scope():
      super().compile(optimizer=optimizer, **kwargs | {"jit_compile": False})
      vars(self)["_loss_tracker"] = LossTracker("loss")  # Keras's could be saved by all workers together only

  def own_callbacks(self) -> list[keras.callbacks.Callback]:
    """Callbacks that training needs besides those of `fit`."""
    return []

  def compile_from_config(self, config: dict[str, Any]) -> None:
    """Compiles a model that is loaded; what earlier versions took and ignored is left out."""
    with self.distribute_strategy.scope():
      config = keras.saving.deserialize_keras_object(config)
    self.compile(**{name: value for name, value in config.items() if name not in _REFUSED})
    self._build_optimizer()

  def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
    """Keras's `fit`.

    Creates all variables beforehand: TensorFlow traces a step that creates some twice. Warns, at the end of the first
    epoch with some, of updates that were skipped.

    Raises:
      UserError: observations outside the decoder's `support` (of arrays all are looked at, else the first batch);
        a class_weight.
    """
    call = _arguments("fit", self, x, *args, **kwargs)
    if isinstance(x, tf.data.Dataset):
      call.setdefault("shuffle", False)  # a dataset shuffles itself; Keras would warn that it cannot
      self._build_on_spec(x.element_spec)
    callbacks = call.get("callbacks")
    if not isinstance(callbacks, keras.callbacks.CallbackList):  # which whoever runs its own loop gives
      call["callbacks"] = [*self.own_callbacks(), *_listed(callbacks), SkippedUpdates()]
    self._prepare(call, builds=True)
    if call.get("validation_data") is not None:
      call["validation_data"] = self._validation(call["validation_data"])
    self._build_optimizer()
    return super().fit(**call)

  def evaluate(self, *args: Any, **kwargs: Any) -> Any:
    """Keras's `evaluate`. Raises UserError for observations outside the decoder's `support`."""
    call = _arguments("evaluate", self, *args, **kwargs)
    self._prepare(call)
    return super().evaluate(**call)

  def predict(self, *args: Any, **kwargs: Any) -> Any:
    """Keras's `predict`. Raises UserError for observations outside the decoder's `support`."""
    call = _arguments("predict", self, *args, **kwargs)
    self._prepare(call)
    return super().predict(**call)

  def train_on_batch(self, x: Any, *args: Any, **kwargs: Any) -> Any:
    """Keras's `train_on_batch`. Raises UserError as `fit`."""
    call = _arguments("train_on_batch", self, x, *args, **kwargs)
    _refuse_class_weight(call)
    observations.check(self.decoder, x)
    return super().train_on_batch(**call)

  def test_on_batch(self, x: Any, *args: Any, **kwargs: Any) -> Any:
    """Keras's `test_on_batch`. Raises UserError as `evaluate`."""
    observations.check(self.decoder, x)
    return super().test_on_batch(x, *args, **kwargs)

  def quantize(self, mode: Any = None, **kwargs: Any) -> None:
    """Refused: Raises UserError."""
    raise UserError(
      f"a SAVAE cannot be quantised, as the gradients of its refinement would be rounded; received {mode!r};"
      ' for less memory give the networks dtype="mixed_bfloat16"'
    )

  def _build_optimizer(self) -> None:
    if self.built and self.compiled and not self.optimizer.built:
      with self.distribute_strategy.scope():
        self.optimizer.build(self.trainable_variables)

  def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
    """Keras would build the model on a mean of batches of all devices; it is built otherwise."""

  def _prepare(self, call: dict[str, Any], builds: bool = False) -> None:
    """Looks at the data of a call of `fit`, `evaluate` or `predict`, and changes the call where need be."""
    strategy_checks.check_place(self)
    _refuse_class_weight(call)
    if isinstance(call.get("callbacks"), keras.callbacks.CallbackList) and not isinstance(
      call.get("x"), np.ndarray
    ):
      return  # `fit` looked already; so did whoever runs its own loop
    first, call["x"] = self._first(call.get("x"))
    observations.check(self.decoder, first)
    if builds and first is not None:
      self._build_on(**observations.described(tf.nest.map_structure(_as_keras_takes_it, first)))
    if call.get("sample_weight") is not None and call.get("y") is None:
      call["y"] = np.zeros(observations.size(call["x"]), "float32")  # without targets Keras drops the weights

  def _validation(self, data: Any) -> Any:
    """`validation_data` as `fit` takes them, looked at, and with targets where there are weights."""
    x, *rest = data if isinstance(data, tuple) else (data,)
    first, x = self._first(x)
    observations.check(self.decoder, first)
    if len(rest) == 2 and rest[0] is None:
      rest[0] = np.zeros(observations.size(x), "float32")
    return (x, *rest) if isinstance(data, tuple) else x

  def _first(self, data: Any) -> tuple[Any, Any]:
    """`observations.first_batch`, once for each data set: its shuffle buffer may take long to fill."""
    if isinstance(data, tf.distribute.DistributedDataset):
      return None, data
    if isinstance(data, tf.data.Dataset):
      if id(data) in self._seen:
        return None, data
      self._seen |= {id(data)}
    return observations.first_batch(data)

  def _build_on_spec(self, element_spec: Any) -> None:
    spec = keras.utils.unpack_x_y_sample_weight(element_spec)[0]
    if all(isinstance(each, tf.TensorSpec) and each.shape.rank for each in tf.nest.flatten(spec)):
      self._build_on(**observations.described(spec))


def _as_keras_takes_it(x: Any) -> tf.TensorSpec:
  """The spec of an array; Keras makes floating ones its `floatx`."""
  dtype = tf.as_dtype(x.dtype)
  return tf.TensorSpec(x.shape, keras.config.floatx() if dtype.is_floating else dtype)


class SkippedUpdates(keras.callbacks.Callback):
  """Warns once, at the end of the first epoch in which updates were skipped: how many, and what was not finite."""

  def __init__(self):
    super().__init__()
    self._has_warned = False

  def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
    self._before, self._step = self._numbers(), int(self.model.step.numpy())

  def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
    skipped, reasons = (now - before for now, before in zip(self._numbers(), self._before, strict=True))
    if self._has_warned or not skipped:
      return
    self._has_warned = True
    updates = int(self.model.step.numpy()) - self._step
    warnings.warn(
      f"{skipped} of {updates} updates of epoch {epoch + 1} were skipped and changed nothing; not finite were"
      f" {self.model.skip_reasons.text(reasons)}; look for NaN in the data, or lower the learning rate or"
      " the SVI step size",
      stacklevel=2,
    )

  def _numbers(self):
    return int(self.model.skipped.numpy()), self.model.skip_reasons.numbers()


def _arguments(method: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
  """Arguments of a method of `keras.Model` by name, without self."""
  if unknown := {name: kwargs.pop(name) for name in list(kwargs) if name.startswith("_")}:
    return _arguments(method, *args, **kwargs) | unknown
  bound = dict(inspect.signature(getattr(keras.Model, method)).bind(*args, **kwargs).arguments)
  bound.pop("self")
  return bound


def _refuse_class_weight(call: dict[str, Any]) -> None:
  if call.pop("class_weight", None) is not None:
    raise UserError(
      "class_weight needs classes, and a SAVAE has none; give sample_weight, one number per example"
    )


def _listed(callbacks: Any) -> list[Any]:
  return list(callbacks) if isinstance(callbacks, (list, tuple)) else [] if callbacks is None else [callbacks]
