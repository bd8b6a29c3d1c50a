"""One training run from data to results.json, new or resumed."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from tf_savae.data.batches import steps_per_epoch
from tf_savae.data.dataset import DataSet
from tf_savae.errors import UserError, reason
from tf_savae.model import SAVAE
from tf_savae.runs import adjoint_choice, own, run_data
from tf_savae.runs.beside import DirectoryBeside
from tf_savae.runs.build import build_model
from tf_savae.runs.config import RunConfig
from tf_savae.runs.directory import RunDirectory, open_run
from tf_savae.runs.warm_start import warm_start
from tf_savae.training import results
from tf_savae.training.keeping import RunKeeper
from tf_savae.training.profile import Profile
from tf_savae.training.progress import ProgressBar
from tf_savae.training.stopping import NotFinite
from tf_savae.training.team import Team
from tf_savae.training.team import of_run as devices_of_run
from tf_savae.training.tensorboard import TensorBoardLogger


def run(
  config: RunConfig,
  data: DataSet | None = None,
  model: SAVAE | None = None,
  callbacks: Sequence[keras.callbacks.Callback] = (),
  *,
  splits: Sequence[str] = ("valid", "test"),
) -> dict[str, Any]:
  """Trains (or, with `eval_only`, only evaluates) and returns the content of results.json.

  The same call resumes a run that was killed. It prints progress and, at the end, a table and what to do next.

  Args:
    config: the settings.
    data: your own data, of the same kind as `config.dataset`; default: the data set in the settings. A run can be
      resumed only with the same data.
    model: your own model, new or with weights, with the method, K and seed of the settings; default: the model that
      the settings describe. If it is not compiled, it gets the optimiser of the settings. A run can be resumed only
      with an equal model, which then gets its weights from the checkpoint.
    callbacks: further Keras callbacks, called after those of the run. `fit` is called once per epoch. If a callback
      sets `model.stop_training`, training ends after a validation. A resumed run does not restore their state.
    splits: the splits on which the best model is evaluated at the end; always "test" with `config.eval_file`.

  Raises:
    UserError: something that the user can fix: the data, the run directory, settings or a full disk.
    KeyboardInterrupt: Ctrl-C or SIGTERM. It is an `Interrupted` if there was time to save; its text says what is saved.

  Returns:
    The content of results.json: settings, and for each split its bounds, KL and likelihood in nats. Workers beside the
    chief return the same.

  Example:
    >>> import tempfile
    >>> from tf_savae.training import make_config, run
    >>> options = {"dataset": "synthetic", "model": "vae", "preset": "tiny", "max_steps": 1}
    >>> config = make_config(**options, run_dir=f"{tempfile.mkdtemp()}/run")
    >>> results = run(config, splits=["test"])  # doctest: +ELLIPSIS
    data: synthetic...
    >>> results["test"]["nll_bound"] > 0
    True
  """
  team = devices_of_run(config)
  with contextlib.ExitStack() as opened:
    with team.chief_first():
      run_dir = opened.enter_context(open_run(config, RunDirectory if team.is_chief else DirectoryBeside))
      data = _data(config, run_dir, data)
    with team.scope():
      model = _model(config, run_dir, data, model)
    # Of the data that it trains on, which is not there when it is evaluated on a file.
    per_epoch = steps_per_epoch(run_dir.data_facts()["train"], config.batch_size)
    keeper = RunKeeper.of(config, run_dir, model, per_epoch, team)
    board = (
      None if config.eval_only or not team.is_chief else TensorBoardLogger(run_dir.tensorboard, data, config)
    )
    try:
      with keeper.request.listening(), _explained(config, run_dir, team):
        if not config.eval_only:
          _train(config, run_dir, data, model, keeper, [*([board] if board else []), *callbacks], team)
        elif not keeper.restore_trained():
          raise UserError(f"--run_dir={run_dir.path} holds no trained weights yet; train there first")
        splits = ("test",) if config.eval_file else splits
        return results.finish(config, run_dir, data, model, keeper, board, splits, team)
    finally:
      if board is not None:
        board.close()


def _data(config: RunConfig, run_dir: RunDirectory, data: DataSet | None) -> DataSet:
  """The data of the run, those that are given or those of the settings."""
  with _forgotten_if_refused(config, run_dir):
    if data is None:
      data = run_data.load(config, run_dir)
    else:
      own.take_data(config, run_dir, data)
    print("\n".join([f"data: {data.source}", *data.notes]), flush=True)
    return data


def _model(config: RunConfig, run_dir: RunDirectory, data: DataSet, model: SAVAE | None) -> SAVAE:
  """The compiled model of the run, the one that is given or that of the settings."""
  with _forgotten_if_refused(config, run_dir):
    if model is None:
      model = own.rebuilt(config, run_dir, data) or _built(config, data)
    else:
      own.take_model(config, run_dir, data, model)
    if config.init_from and not run_dir.has_checkpoint:
      warm_start(config, run_dir, model)
      which = "encoder and decoder begin" if config.init_networks == "both" else "the encoder begins"
      print(f"{which} as in {config.init_from}", flush=True)
    return model


def _built(config: RunConfig, data: DataSet) -> SAVAE:
  model = build_model(config, data)
  if config.adjoint == "auto" and model.method.differentiates and not config.eval_only:
    print(adjoint_choice.choose(config, model.decoder, data), flush=True)
  return model


@contextmanager
def _forgotten_if_refused(config: RunConfig, run_dir: RunDirectory) -> Iterator[None]:
  """A run that fails before its first checkpoint forgets its settings."""
  try:
    yield
  except UserError:
    if not config.eval_only:
      run_dir.forget_unused()
    raise


@contextmanager
def _explained(config: RunConfig, run_dir: RunDirectory, team: Team) -> Iterator[None]:
  """Turns a full disk or memory, or a worker that is gone, into one line."""
  try:
    with team.explained():
      yield
  except OSError as error:
    raise UserError(f"cannot go on: {reason(error)}; the run in {run_dir.path} can be resumed") from error
  except tf.errors.ResourceExhaustedError as error:
    raise UserError(
      f"out of memory: {error.message.splitlines()[0]}; received --batch_size={config.batch_size}"
      f" --eval_batch_size={config.eval_batch_size}; the latter may be lowered in this run"
    ) from error


def _train(
  config: RunConfig,
  run_dir: RunDirectory,
  data: DataSet,
  model: SAVAE,
  keeper: RunKeeper,
  more: Sequence[keras.callbacks.Callback],
  team: Team,
) -> None:
  """Runs all remaining updates with their validations; `more` callbacks come after the run's own."""
  step, last = keeper.restore(), keeper.stopping.last_step
  per_epoch = data.steps_per_epoch(config.batch_size)
  if step:
    print(f"resumed at update {step} of {last}", flush=True)
  bar = ProgressBar(
    config.epochs,
    per_epoch,
    first_step=step - _epoch(step, per_epoch, keeper) * per_epoch,
    steps_left=last - step,
    limit=keeper.stopping.seconds_left if config.max_minutes else None,
  )
  received = f"--learning_rate={config.learning_rate} --svi_lr={config.svi_lr}"
  guard = NotFinite(config.max_nonfinite, run_dir.checkpoints, received)
  profile = None
  if config.profile:
    profile = Profile(run_dir.tensorboard / "train", config.profile, done=step, end=last)
    more = [*more, profile]
  # Only `fit` would tell them that training begins, and a resumed run may have nothing left but a validation.
  # The model's own first, since the keeper saves what they change.
  own_ones = model.own_callbacks()
  callbacks = keras.callbacks.CallbackList(
    [*own_ones, keeper, guard, bar, *more], add_history=True, model=model
  )
  callbacks.on_train_begin()
  try:
    _epochs(config, data, model, keeper, callbacks, team)
  finally:
    bar.close()
    if profile is not None:
      profile.close()


def _epochs(
  config: RunConfig,
  data: DataSet,
  model: SAVAE,
  keeper: RunKeeper,
  callbacks: keras.callbacks.CallbackList,
  team: Team,
) -> None:
  """Calls `fit` once per epoch, each time with a validation, until something ends training."""
  per_epoch, stopping = data.steps_per_epoch(config.batch_size), keeper.stopping
  valid = team.shared(data.eval_batches("valid", config.eval_batch_size))
  in_valid = steps_per_epoch(data.num_examples("valid"), config.eval_batch_size)
  while not stopping.is_early:
    is_due = stopping.is_due
    if is_due and stopping.is_validated:
      break
    step = int(model.step.numpy())
    epoch = _epoch(step, per_epoch, keeper)
    end = min((epoch + 1) * per_epoch, stopping.last_step)
    # Several devices do not notice the end of data by themselves.
    several = team.strategy is not None
    steps = {"steps_per_epoch": end - step, "validation_steps": in_valid} if several else {}
    if step < end and not is_due:
      try:
        model.fit(
          team.shared(data.train_batches(config.batch_size, step, end - step)),
          initial_epoch=epoch,
          epochs=epoch + 1,
          validation_data=valid,
          **steps,
          shuffle=False,
          verbose=0,
          callbacks=callbacks,
        )
      except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
        if int(model.step.numpy()) != step or not _is_about_xla(config, model, error):
          raise
        _go_on_without_xla(model, error)
        keeper.repeat_epoch()
        continue
      stopping.by_callback = model.stop_training and not stopping.is_due
    else:
      _validate(model, valid, callbacks, epoch, in_valid if several else None)


def _is_about_xla(config: RunConfig, model: SAVAE, error: tf.errors.OpError) -> bool:
  """Whether the step was compiled without having been asked for, and could not be."""
  return config.jit_compile == "auto" and model.jit_compile and "XLA" in error.message.upper()


def _go_on_without_xla(model: SAVAE, error: tf.errors.OpError) -> None:
  why = (re.search(r"No registered '(\w+)'", error.message) or [None, error.message.splitlines()[0][:200]])[1]
  print(f"warning: XLA cannot compile the step ({why}); going on without it", file=sys.stderr, flush=True)
  model.jit_compile = False
  model.train_function = model.test_function = model.predict_function = None


def _epoch(step: int, per_epoch: int, keeper: RunKeeper) -> int:
  """The epoch to continue with after `step` updates; an epoch ends with its validation, not its last update."""
  return (step if keeper.stopping.is_validated else step - 1) // per_epoch


def _validate(
  model: SAVAE, valid: Any, callbacks: keras.callbacks.CallbackList, epoch: int, steps: int | None
) -> None:
  """Does what `fit` does after the last update of an epoch; `steps` is the number of batches, if it must be told."""
  callbacks.on_epoch_begin(epoch)
  logs = {name: float(value) for name, value in model.training_results().items()}
  values = model.evaluate(valid, callbacks=callbacks, steps=steps, verbose=0, return_dict=True)
  callbacks.on_epoch_end(epoch, logs | {f"val_{name}": value for name, value in values.items()})
