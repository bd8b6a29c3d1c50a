"""One training run from data to results.json, new or resumed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tqdm

from tf_savae.data.batches import steps_per_epoch
from tf_savae.data.dataset import DataSet
from tf_savae.errors import UserError, reason
from tf_savae.evaluation import figures, per_example
from tf_savae.evaluation.bounds import Evaluator
from tf_savae.model import SAVAE
from tf_savae.runs import run_data
from tf_savae.runs.build import build_model
from tf_savae.runs.config import RunConfig
from tf_savae.runs.directory import RunDirectory, open_run
from tf_savae.runs.warm_start import warm_start
from tf_savae.training.keeping import RunKeeper
from tf_savae.training.progress import ProgressBar
from tf_savae.training.summary import next_steps, summary_table
from tf_savae.training.tensorboard import TensorBoardLogger


def run(config: RunConfig, splits: Sequence[str] = ("valid", "test")) -> dict[str, Any]:
  """Trains (or, with `eval_only`, only evaluates) and returns the content of results.json.

  The same call goes on with a run that was killed. Prints progress and, at the end, a table and what to do next.

  Args:
    config: the settings.
    splits: what the best model is evaluated on at the end; always "test" with `config.eval_file`.

  Raises:
    UserError: whatever the user can mend: the data, the run directory, settings, a full disk.
    KeyboardInterrupt: Ctrl-C, or SIGTERM. `Interrupted` if there was time to save; its text says what is saved.
  """
  with open_run(config) as run_dir:
    try:
      data = run_data.load(config, run_dir)
      print(f"data: {data.source}", flush=True)
      model = build_model(config, data)
      if config.init_from and not run_dir.has_checkpoint:
        warm_start(config, run_dir, model)
        print(f"encoder and decoder begin as in {config.init_from}", flush=True)
    except UserError:
      if not config.eval_only:
        run_dir.forget_unused()
      raise
    # Of the data that it trains on, which is not there when it is evaluated on a file.
    per_epoch = steps_per_epoch(run_dir.data_facts()["train"], config.batch_size)
    keeper = RunKeeper(config, run_dir, model, per_epoch)
    board = None if config.eval_only else TensorBoardLogger(run_dir.tensorboard, data, config)
    try:
      with keeper.stopping_on_signals():
        if board is not None:
          _train(config, data, model, keeper, board)
        elif not keeper.checkpoints.restore_latest(must_exist=run_dir.has_progress):
          raise UserError(f"--run_dir={run_dir.path} holds no trained weights yet; train there first")
        splits = ("test",) if config.eval_file else splits
        return _finish(config, run_dir, data, model, keeper, board, splits)
    except OSError as error:
      raise UserError(f"cannot go on: {reason(error)}; the run in {run_dir.path} can be resumed") from error
    except tf.errors.ResourceExhaustedError as error:
      raise UserError(
        f"out of memory: {error.message.splitlines()[0]}; received --batch_size={config.batch_size}"
        f" --eval_batch_size={config.eval_batch_size}; the latter may be lowered in this run"
      ) from error
    finally:
      if board is not None:
        board.close()


def _train(
  config: RunConfig, data: DataSet, model: SAVAE, keeper: RunKeeper, board: TensorBoardLogger
) -> None:
  """All updates that are left, an epoch a call of `fit`, each with its validation."""
  step = keeper.restore()
  per_epoch = data.steps_per_epoch(config.batch_size)
  last = keeper.last_step
  if step:
    print(f"resumed at update {step} of {last}", flush=True)
  epoch = _epoch(step, per_epoch, keeper)
  bar = ProgressBar(
    config.epochs,
    per_epoch,
    first_step=step - epoch * per_epoch,
    steps_left=last - step,
    limit=keeper.seconds_left if config.max_minutes else None,
  )
  # Only `fit` would tell them that training begins, and a resumed run may have nothing left but a validation.
  callbacks = keras.callbacks.CallbackList([keeper, bar, board], add_history=True, model=model)
  callbacks.on_train_begin()
  valid = data.eval_batches("valid", config.eval_batch_size)
  try:
    while not keeper.is_stopped_early:
      is_over = step >= last or keeper.is_out_of_time
      if is_over and keeper.is_validated:
        break
      epoch = _epoch(step, per_epoch, keeper)
      end = min((epoch + 1) * per_epoch, last)
      if step < end and not is_over:
        model.fit(
          data.train_batches(config.batch_size, step, end - step),
          initial_epoch=epoch,
          epochs=epoch + 1,
          validation_data=valid,
          shuffle=False,
          verbose=0,
          callbacks=callbacks,
        )
      else:
        _validate(model, valid, callbacks, epoch)
      step = int(model.step.value)
  finally:
    bar.close()


def _epoch(step: int, per_epoch: int, keeper: RunKeeper) -> int:
  """The epoch to go on with after `step` updates: its last update alone does not end it, but its validation."""
  return (step if keeper.is_validated else step - 1) // per_epoch


def _validate(
  model: SAVAE, valid: tf.data.Dataset, callbacks: keras.callbacks.CallbackList, epoch: int
) -> None:
  """What `fit` does after an epoch's last update."""
  callbacks.on_epoch_begin(epoch)
  logs = {name: float(value) for name, value in model.training_results().items()}
  values = model.evaluate(valid, callbacks=callbacks, verbose=0, return_dict=True)
  callbacks.on_epoch_end(epoch, logs | {f"val_{name}": value for name, value in values.items()})


def _finish(
  config: RunConfig,
  run_dir: RunDirectory,
  data: DataSet,
  model: SAVAE,
  keeper: RunKeeper,
  board: TensorBoardLogger | None,
  splits: Sequence[str],
) -> dict[str, Any]:
  """Evaluates the best model, writes results.json, and prints the table."""
  stopped_by = keeper.stopped_by()
  best = keeper.checkpoints.restore_best()
  train_examples = run_dir.data_facts()["train"]
  per_epoch = steps_per_epoch(train_examples, config.batch_size)
  progress = keeper.progress
  epochs, rest = divmod(int(progress.step), per_epoch)
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
    # None: no validation bound was a number, and the last weights are evaluated.
    "best_epoch": None if best is None else -(-best[0] // per_epoch),
    "examples": epochs * train_examples + rest * config.batch_size,
    "skipped_updates": int(progress.skipped_updates),
    "seconds": float(progress.seconds),
    "stopped_by": stopped_by,  # None: training is not over
  }
  if config.is_text:
    results |= {"decoder": config.decoder_name, "word_dropout": config.word_dropout}
  if config.init_from:
    results["init_from"] = config.init_from
  if config.eval_file:
    results["eval_file"] = config.eval_file
  compile_evaluation = config.deterministic and data.kind != "text"
  evaluate = Evaluator(model, config.iw_samples, jit_compile=compile_evaluation)
  for split in splits:
    total = data.num_examples(split)
    with tqdm.tqdm(
      total=total, desc=f"evaluate {split}", leave=False, disable=not sys.stderr.isatty()
    ) as bar:

      def after_batch(examples: int, bar: tqdm.tqdm = bar) -> None:
        bar.update(examples)
        keeper.check_stop()

      each = run_dir.path / per_example.TEST_FILE if split == "test" and not config.eval_file else None
      results[split] = evaluate(data, split, config.eval_batch_size, after_batch, save_to=each)
  if data.kind == "image":
    figures.save_overview(model, data, run_dir.path / "overview.png")
  if config.eval_file:
    path = run_dir.write_results_of(config.eval_file, results)
    print(f"\n{summary_table(results)}\n\nwritten to {path}", flush=True)
    return results
  run_dir.write_results(results, training_finished=None if config.eval_only else True)
  if board is not None:
    board.finish(model, results)
  print(f"\n{summary_table(results)}\n\n{next_steps(run_dir.path, writes=data.kind == 'text')}", flush=True)
  return results
