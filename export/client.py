"""`python -m export.client`: the same as `python -m tf_savae client`."""

from __future__ import annotations

import sys

from tf_savae.commands.client import main

if __name__ == "__main__":
  sys.exit(main())
