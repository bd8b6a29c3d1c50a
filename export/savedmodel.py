"""`python -m export.savedmodel`: the same as `python -m tf_savae export`."""

from __future__ import annotations

import sys

from tf_savae.commands.export import main

if __name__ == "__main__":
  sys.exit(main())
