"""`TensorBoardLogger`: logs a run for TensorBoard, during training and at its end.

The log directory holds one TensorBoard run per sub-directory, so that curves of the same name share a chart:

    train        every few updates, the mean since the last point
    train_epoch  the mean of an epoch's updates
    valid        after every epoch; also histograms, and pictures or texts
    svi_steps    the newest validation bound against the SVI step k (the horizontal axis is k)
    inference    the graph of inference for a batch (page Graphs)
    results      settings and final metrics (page HParams), last pictures or texts, posterior means (page Projector),
                 and the layout of the page Custom Scalars
"""

from __future__ import annotations

import functools
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_savae import observations
from tf_savae.data.dataset import DataSet
from tf_savae.errors import UserError
from tf_savae.evaluation import figures
from tf_savae.evaluation.latents import active_units, mutual_information
from tf_savae.evaluation.posteriors import Inference, Posteriors
from tf_savae.kind import KINDS
from tf_savae.model import SAVAE
from tf_savae.runs.config import RunConfig
from tf_savae.training import charts, event_files, hparams, projector
from tf_savae.training.clock import Budget
from tf_savae.training.interval_means import IntervalMeans

_STEPWISE = ("train", "train_epoch", "valid")  # runs whose horizontal axis is the global step
_EARLIER_CURVES = 8
_PROJECTED_EXAMPLES = 1000


def _outlived(method: Callable[..., None]) -> Callable[..., None]:
  """Decorates a method of the logger: if it fails to write, the run continues without logs."""

  @functools.wraps(method)
  def attempt(self, *args, **kwargs):
    if self._given_up:
      return
    try:
      method(self, *args, **kwargs)
    except (OSError, tf.errors.OpError, UserError) as error:
      self._given_up = True
      # One line, without the name of the TensorFlow op that TensorFlow puts first.
      what = re.sub(r"^\{\{.*?\}\} ", "", next(iter(str(error).splitlines()), type(error).__name__))
      print(f"warning: no more logs for TensorBoard in {self._logdir}: {what}", file=sys.stderr)

  return attempt


class TensorBoardLogger(keras.callbacks.Callback):
  """Writes scalars, images, histograms, settings and embeddings of one run, over many calls of `fit`.

  Points that an earlier process logged after the first step of this one are removed, because they will be logged
  again. If a log cannot be written, for example on a full disk, logging ends with a warning and the run continues.

  Args:
    logdir: directory for the event files.
    data: the run's data; their kind decides what is shown besides curves.
    config: the settings for the HParams page.
    every: updates between two points of the train curves; default: 20, or fewer if an epoch is short.
    image_share: share of the training time that pictures may take; the first epoch and the end always have pictures.
    num_examples: validation examples for histograms, active units and the curve over SVI steps.
  """

  def __init__(
    self,
    logdir: str | os.PathLike[str],
    data: DataSet,
    config: RunConfig,
    *,
    every: int | None = None,
    image_share: float = 0.05,
    num_examples: int = 200,
  ):
    super().__init__()
    self._logdir, self._data, self._config = Path(logdir), data, config
    self._every = every or min(20, -(-data.steps_per_epoch(config.batch_size) // 10))
    self._kind = KINDS.get(data.kind)
    self._writers: dict[str, tf.summary.SummaryWriter] = {}
    self._given_up = False
    self._means: IntervalMeans | None = None
    self._train_seconds: float | None = None
    self._budget = Budget(image_share)
    self._curves: list[tuple[str, np.ndarray]] = []
    self._examples, _ = self._first_of_valid(num_examples)
    self._infer: Inference | None = None
    self._stand_in = " (stand-in data)" if data.is_stand_in else ""
    self._begun = False

  # Hooks of Keras. `fit` is called once per epoch, so on_train_end is not the end of the run.

  @_outlived
  def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
    self._means = None
    if not self._begun:
      self._begun = True
      self._drop_after(self._step(), _STEPWISE)
      self._write_settings()

  def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
    if self._means is None:  # not earlier, because a resumed run restores its metrics when the epoch begins
      self._means = IntervalMeans(self.model)
      self._updates = self._step()
      self._epoch_start = time.monotonic()
      self._train_seconds = None

  def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
    self._updates += 1
    if self._updates % self._every == 0:
      self._log_interval()

  @_outlived
  def on_test_begin(self, logs: Any = None) -> None:
    if self._means is None and "valid" not in self._writers:
      # A run resumed after an epoch's last update validates again, though this may have been logged already.
      self._drop_after(self._step() - 1, ("train_epoch", "valid"))
    self._end_of_training()

  @_outlived
  def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
    self._end_of_training()
    logs = {name: float(value) for name, value in (logs or {}).items()}
    train = {name: value for name, value in logs.items() if not name.startswith("val_")}
    valid = {name.removeprefix("val_"): value for name, value in logs.items() if name.startswith("val_")}
    valid.pop("loss", None)  # equals the bound
    posteriors = self._posteriors(self._examples)
    if posteriors is not None:
      valid["active_units"] = active_units(posteriors.final.mean)
      valid["mutual_information"] = mutual_information(posteriors.final, self.model.seed).value
    valid |= self._perplexities(valid)
    self._scalars("train_epoch", train)
    self._scalars("valid", valid)
    if posteriors is not None:
      self._write_graph()
      self._histograms(posteriors)
      if self.model.eval_k:
        self._svi_curve(f"epoch {epoch + 1}", posteriors.bounds.mean(axis=1))
    self._budget.earn(self._train_seconds or 0.0)
    if self._budget.allows():
      with self._budget.spending():
        self._show_examples(posteriors, "valid", self._step())
    self._flush()

  # The end of the run.

  @_outlived
  def finish(self, model: SAVAE, results: Mapping[str, Any]) -> None:
    """Writes the final metrics, pictures and the projector. `fit` need not have been called before.

    Args:
      model: the model that was evaluated.
      results: the content of results.json.
    """
    self.set_model(model)
    self._write_settings()
    step = int(results.get("steps", self._step()))  # the best model's own step may be an earlier one
    hparams.write_metrics(self._writer("results"), results, step)
    self._show_examples(self._posteriors(self._examples), "results", step)
    if model.latent_dim:
      self._write_projector()
    self.close()

  @_outlived
  def close(self) -> None:
    """Closes the files. A later call opens new ones, which TensorBoard joins to the old ones."""
    for writer in self._writers.values():
      writer.close()
    self._writers = {}

  # Scalars.

  def _end_of_training(self) -> None:
    """Logs the last point of an epoch's train curves; the metrics still hold the values of training."""
    if self._means is not None and self._train_seconds is None:
      self._train_seconds = time.monotonic() - self._epoch_start
      self._log_interval()

  @_outlived
  def _log_interval(self) -> None:
    values = self._means.since_last()
    if not values:
      return
    beta = self.model.beta
    values["beta"] = float(beta(self._updates) if callable(beta) else beta)
    if self.model.k_schedule is not None:
      values["k_now"] = float(self.model.k_schedule(self._updates))
    values["learning_rate"] = float(self.model.optimizer.learning_rate.numpy())
    values["skipped"] = float(self.model.skipped.numpy())
    self._scalars("train", values, self._updates)

  def _scalars(self, run: str, values: dict[str, float], step: int | None = None) -> None:
    if "bound_initial" in values:
      values = values | {"gain": values["bound_initial"] - values["bound"]}
    with self._writer(run).as_default(step=self._step() if step is None else step):
      for name, value in values.items():
        tag, description = charts.SCALARS.get(name, (f"other/{name}", ""))
        tf.summary.scalar(tag, value, description=description)

  def _perplexities(self, bounds: Mapping[str, float]) -> dict[str, float]:
    """Perplexities of the validation examples from their mean bounds, if their kind has perplexities."""
    length = self._kind.mean_length(self._data, "valid")
    if length is None:
      return {}
    names = {"bound": "perplexity", "bound_initial": "perplexity_initial"}
    with np.errstate(over="ignore"):
      return {new: float(np.exp(bounds[name] / length)) for name, new in names.items() if name in bounds}

  # Refinement.

  def _svi_curve(self, label: str, bounds: np.ndarray) -> None:
    about = f"−ELBO at λ_k against k, nats; {observations.size(self._examples)} validation examples, {label}"
    # Only the newest curve is kept, so the file of the previous epoch is removed.
    directory = self._logdir / "svi_steps"
    old = list(directory.glob("*tfevents*"))
    writer = tf.summary.create_file_writer(os.fspath(directory))
    with writer.as_default():
      for k, value in enumerate(bounds):
        tf.summary.scalar("refinement/bound_after_k_steps", value, step=k, description=about)
    writer.close()
    for path in old:
      path.unlink(missing_ok=True)
    self._curves = [*self._curves[-_EARLIER_CURVES:], (label, bounds)]
    title = f"{observations.size(self._examples)} validation examples{self._stand_in}"
    self._figure("refinement/gain_of_k_steps", figures.svi_curve(self._curves, title), "valid", self._step())

  # Pictures and histograms.

  def _histograms(self, posteriors: Posteriors) -> None:
    stages = {"lambda_0": posteriors.initial, "lambda_K": posteriors.final}
    with self._writer("valid").as_default(step=self._step()):
      for name, params in stages.items():
        if params is not None:
          tf.summary.histogram(
            f"posterior/mean_{name}", params.mean, description="μ over examples and latents"
          )
          sigma = np.exp(0.5 * params.log_var)
          tf.summary.histogram(
            f"posterior/stddev_{name}", sigma, description="σ; near 1 with μ near 0: unused"
          )

  def _show_examples(self, posteriors: Posteriors | None, run: str, step: int) -> None:
    """Logs what the model makes of examples, as pictures or texts."""
    for tag, figure in self._kind.pictures(self.model, self._examples, posteriors, self._stand_in):
      self._figure(tag, figure, run, step)
    self._kind.write_samples(self.model, self._data, self._examples, posteriors, self._writer(run), step)

  def _figure(self, tag: str, figure: Any, run: str, step: int) -> None:
    with self._writer(run).as_default(step=step):
      tf.summary.image(tag, figures.to_array(figure)[np.newaxis])

  # Settings, graph and projector.

  def _write_graph(self) -> None:
    """Writes the graph that infers posteriors: the encoder, the refinement, and the bounds along it."""
    directory = self._logdir / "inference"
    if not list(directory.glob("*tfevents*")):
      with self._writer("inference").as_default(step=0):
        tf.summary.graph(self._infer.graph)

  def _write_settings(self) -> None:
    directory = self._logdir / "results"
    if list(directory.glob("*tfevents*")):
      return  # a resumed run
    values = hparams.settings(self._config)
    values |= {"eval_k": self.model.eval_k, "stand_in_data": self._data.is_stand_in}
    writer = self._writer("results")
    hparams.write_settings(writer, values, name=Path(self._config.run_dir).name)
    charts.write_custom_scalars(writer, self._kind.mean_length(self._data, "valid") is not None)
    with writer.as_default(step=0):
      tf.summary.text("settings", hparams.as_markdown(self._config, self._data.source))
    writer.flush()

  def _write_projector(self) -> None:
    x, rows = self._first_of_valid(_PROJECTED_EXAMPLES)
    posteriors = self._posteriors(x)
    labels = {name: [parts["valid"][i] for i in rows] for name, parts in self._data.labels.items()}
    projector.write_projector(
      self._logdir / "results",
      posteriors.centers,
      projector.columns(rows, posteriors) | self._kind.projector_columns(x, self._data) | labels,
      self._kind.sprites(x),
      name=f"posterior means{self._stand_in}",
    )

  # The model and the files.

  def _posteriors(self, x: Any) -> Posteriors | None:
    if not self.model.latent_dim:
      return None
    if self._infer is None:
      batch_size = self._config.eval_batch_size
      self._infer = Inference(self.model, self._data.eval_batches("valid", batch_size).element_spec)
    return self._infer(x, self._config.eval_batch_size)

  def _first_of_valid(self, n: int) -> tuple[Any, np.ndarray]:
    """Validation examples, from the shortest to the longest, so that batches hold little padding; and their rows."""
    x = self._data.examples("valid", n)
    lengths = self._kind.lengths(x)
    rows = np.arange(observations.size(x)) if lengths is None else np.argsort(lengths, kind="stable")
    return observations.take(x, rows), rows

  def _step(self) -> int:
    return int(self.model.step.numpy())

  def _writer(self, run: str) -> tf.summary.SummaryWriter:
    if run not in self._writers:
      self._writers[run] = tf.summary.create_file_writer(os.fspath(self._logdir / run))
    return self._writers[run]

  def _drop_after(self, step: int, runs: Sequence[str]) -> None:
    for run in runs:
      event_files.drop_after(self._logdir / run, step)

  def _flush(self) -> None:
    for writer in self._writers.values():
      writer.flush()
