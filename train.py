"""Trains a semi-amortized variational autoencoder: `python train.py --dataset=omniglot --k=20`."""

from __future__ import annotations

import dataclasses
import sys

if sys.version_info < (3, 11):  # noqa: UP036 (who has another Python should read why it fails)
  sys.exit(f"error: Python 3.11 or newer is needed; this is {sys.version.split()[0]}")

# Nothing imported here may import TensorFlow: a wrong flag and --help answer at once.
from tf_savae.commands import train

main = dataclasses.replace(train.COMMAND, program="python train.py").main

if __name__ == "__main__":
  sys.exit(main())
