"""One training run from data to results.json, new or resumed."""

from __future__ import annotations

import sys
from typing import Any

import keras
import tensorflow as tf
import tqdm

from tf_savae import data as data_lib
from tf_savae.data.dataset import DataSet
from tf_savae.errors import UserError
from tf_savae.evaluation.bounds import evaluate
from tf_savae.model import SAVAE
from tf_savae.training.build import build_model
from tf_savae.training.config import RunConfig
from tf_savae.training.keeper import Interrupted, RunKeeper
from tf_savae.training.progress import ProgressBar
from tf_savae.training.run_dir import RunDirectory, open_run
from tf_savae.training.summary import next_steps, summary_table
from tf_savae.training.tensorboard import TensorBoardLogger


def run(config: RunConfig) -> dict[str, Any]:
  """Trains (or, with `eval_only`, only evaluates) and returns the content of results.json.

  The same call goes on with a run that was killed. Prints progress and, at the end, a table and what to do next.

  Raises:
    UserError: whatever the user can mend: the data, the run directory, settings, a full disk.
    KeyboardInterrupt: training was interrupted; it is saved.
  """
  with open_run(config) as run_dir:
    data = data_lib.load(
      config.dataset,
      data_dir=config.data_dir,
      seed=config.seed,
      download=config.download,
      strict=config.strict_data,
      **({"data_seed": config.data_seed} if config.dataset == "synthetic" else {}),
    )
    print(f"data: {data.source}", flush=True)
    run_dir.check_data(
      {"is_stand_in": data.is_stand_in, **{split: data.num_examples(split) for split in data_lib.SPLITS}}
    )
    model = build_model(config, data)
    keeper = RunKeeper(config, run_dir, model)
    try:
      if not config.eval_only:
        _train(config, run_dir, data, model, keeper)
      return _finish(config, run_dir, data, model, keeper)
    except Interrupted:
      print(f"\nstopped and saved; the same command goes on from update {int(model.step.value)}", file=sys.stderr)
      raise KeyboardInterrupt from None
    except (OSError, tf.errors.ResourceExhaustedError) as error:
      raise UserError(f"cannot go on: {error}; the run in {run_dir.path} can be resumed") from error


def _train(config: RunConfig, run_dir: RunDirectory, data: DataSet, model: SAVAE, keeper: RunKeeper) -> None:
  """All epochs that are left, each by one call of `fit`."""
  step = keeper.restore()
  per_epoch = data.steps_per_epoch(config.batch_size)
  last = config.epochs * per_epoch
  if config.max_steps:
    last = min(last, config.max_steps)
  if step:
    print(f"resumed at update {step} of {last}", flush=True)
  first_epoch = int(keeper.progress.epoch)
  bar = ProgressBar(
    config.epochs, per_epoch, first_step=max(step - first_epoch * per_epoch, 0), steps_left=last - step
  )
  board = TensorBoardLogger(run_dir.tensorboard, data, config)
  callbacks = keras.callbacks.CallbackList([keeper, bar, board], add_history=True, model=model)
  valid = data.eval_batches("valid", config.eval_batch_size)
  try:
    with keeper.stopping_on_signals():
      for epoch in range(first_epoch, config.epochs):
        step = int(model.step.value)
        if keeper.is_stopped_early or step >= last and step <= epoch * per_epoch:
          break
        end = min((epoch + 1) * per_epoch, last)
        if step < end:
          model.fit(
            data.train_batches(config.batch_size, step, end - step),
            initial_epoch=epoch,
            epochs=epoch + 1,
            validation_data=valid,
            shuffle=False,
            verbose=0,
            callbacks=callbacks,
          )
        else:  # killed after the epoch's last update, before its validation was done
          _validate(model, valid, callbacks, epoch)
  finally:
    bar.close()
    board.close()


def _validate(model: SAVAE, valid: tf.data.Dataset, callbacks: keras.callbacks.CallbackList, epoch: int) -> None:
  """What `fit` does after an epoch's last update."""
  callbacks.on_epoch_begin(epoch)
  logs = {name: float(value) for name, value in model.training_results().items()}
  values = model.evaluate(valid, callbacks=callbacks, verbose=0, return_dict=True)
  callbacks.on_epoch_end(epoch, logs | {f"val_{name}": value for name, value in values.items()})


def _finish(
  config: RunConfig, run_dir: RunDirectory, data: DataSet, model: SAVAE, keeper: RunKeeper
) -> dict[str, Any]:
  """Evaluates the best model, writes results.json, and prints the table."""
  if keeper.checkpoints.restore_latest(must_exist=True) is None:
    raise UserError(f"--run_dir={run_dir.path} holds no checkpoint yet; train there first")
  keeper.checkpoints.restore_best()
  progress = keeper.progress
  epochs, rest = divmod(int(progress.step), data.steps_per_epoch(config.batch_size))
  results: dict[str, Any] = {
    "dataset": data.name,
    "dataset_source": data.source,
    "is_stand_in": data.is_stand_in,
    "preset": config.preset,
    "model": config.model,
    "k": config.k,
    "eval_k": model.eval_k,
    "seed": config.seed,
    "steps": int(progress.step),
    "epochs": int(progress.epoch),
    "best_epoch": int(progress.best_epoch) + 1,
    "examples": epochs * data.num_examples("train") + rest * config.batch_size,
    "skipped_updates": int(progress.skipped_updates),
    "seconds": float(progress.seconds),
  }
  for split in ("valid", "test"):
    total = data.num_examples(split)
    with tqdm.tqdm(total=total, desc=f"evaluate {split}", leave=False, disable=not sys.stderr.isatty()) as bar:
      results[split] = evaluate(model, data, split, config.eval_batch_size, config.iw_samples, bar.update)
  run_dir.write_results(results, training_finished=None if config.eval_only else True)
  if not config.eval_only:
    TensorBoardLogger(run_dir.tensorboard, data, config).finish(model, results)
  print(f"\n{summary_table(results)}\n\n{next_steps(run_dir.path)}", flush=True)
  return results
