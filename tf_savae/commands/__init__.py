"""The command lines: `python -m tf_savae COMMAND`, and one layer of flags for all of them."""

from __future__ import annotations

# Each is a module of this package with a `COMMAND`, imported when it is asked for.
COMMANDS = (
  "train",
  "evaluate",
  "generate",
  "sweep",
  "gaps",
  "saliency",
  "compare",
  "encode",
  "export",
  "client",
  "serving_config",
  "launch",
)
