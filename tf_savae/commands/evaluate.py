"""Evaluates a trained run: `python -m tf_savae evaluate --run_dir=RUN`, which is `train --eval_only`."""

from __future__ import annotations

import dataclasses
import sys

from tf_savae.commands import train
from tf_savae.commands.flags import Command, Flag, Given
from tf_savae.commands.run_flags import step_flags

# The settings of a run that its evaluation uses and that may differ from those in training.
_USED = (
  *("run_dir", "eval_k", "eval_file", "iw_samples", "eval_batch_size", "data_dir", "download", "strict_data"),
  *("jit_compile", "logit_positions", "deterministic", "bound_samples"),
  *("strategy", "cpu_devices", "worker_timeout", "memory_limit"),
  *(flag.name for flag in step_flags()),
)


# What `--help` says about them here.
_TEXTS = {
  "run_dir": {"help": "the directory of a trained run", "is_needed": True},
  "eval_k": {"help": "SVI steps", "shown_default": "the run's"},
  "eval_file": {"help": "a text to evaluate the run on; its numbers go to results-<name>.json"},
}


def _flags() -> list[Flag]:
  used = [flag for flag in train.flags() if flag.name in _USED]
  texts = [_TEXTS.get(flag.name, {"shown_default": "the run's"}) for flag in used]
  return [dataclasses.replace(flag, group="Settings", **text) for flag, text in zip(used, texts, strict=True)]


def _prepare(given: Given) -> Given:
  given.typed["eval_only"] = True
  return given


COMMAND = Command(
  "evaluate",
  "Evaluates a trained run on its test examples. Writes results.json and test_examples.npz anew.",
  _flags,
  train.work,
  prepare=_prepare,
  usage="--run_dir=RUN [--name=value ...]",
)
main = COMMAND.main

if __name__ == "__main__":
  sys.exit(main())
