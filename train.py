"""Trains a semi-amortized variational autoencoder: `python train.py --dataset=omniglot --k=20`."""

from __future__ import annotations

import signal
import sys

if sys.version_info < (3, 11):  # noqa: UP036 (who has another Python should read why it fails)
  sys.exit(f"error: Python 3.11 or newer is needed; this is {sys.version.split()[0]}")

# Nothing imported here may import TensorFlow: a wrong flag and --help answer at once.
from tf_savae import startup
from tf_savae.commands import train_flags as flags
from tf_savae.errors import UserError


def main(argv: list[str]) -> int:
  """Runs the command line `argv`; returns the exit status: 1 (the run), 2 (the flags), 130 (Ctrl-C), 143 (SIGTERM)."""
  try:
    given = flags.parse(argv)
  except flags.HelpWanted as text:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--help | head` ends quietly
    print(text)
    return 0
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  try:
    startup.import_tensorflow()
    config, first_line = flags.build_config(given)
    print(first_line, flush=True)
    from tf_savae import training

    training.run(config)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  except KeyboardInterrupt as stop:
    print(
      f"interrupted: {stop if stop.args else 'the same command goes on from the last checkpoint'}",
      file=sys.stderr,
    )
    return 128 + getattr(stop, "signal", signal.SIGINT)
  return 0


if __name__ == "__main__":
  sys.exit(main(sys.argv))
