"""`python -m export.serving_config`: the same as `python -m tf_savae serving_config`."""

from __future__ import annotations

import sys

from tf_savae.commands.serving_config import main

if __name__ == "__main__":
  sys.exit(main())
