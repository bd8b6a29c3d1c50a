"""What a trained model of text writes: `python -m tf_savae.commands.generate --run_dir=RUN`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tf_savae import startup
from tf_savae.commands import generate_settings as settings

# Nothing imported here may import TensorFlow: a wrong flag and --help answer at once.
from tf_savae.errors import UserError, exit_status


def main(argv: Sequence[str]) -> int:
  """Runs the command line `argv`; returns the exit status: 1 (the run), 2 (the flags), 130 (Ctrl-C)."""
  try:
    asked = settings.parse(argv)
  except UserError as error:
    print(f"error: {error}", file=sys.stderr)
    return 2

  def work():
    if isinstance(asked, str):
      print(asked, flush=True)
      return
    startup.import_tensorflow()
    from tf_savae.commands import generate_work as run

    run.run(asked, lambda text: print(text, flush=True))

  return exit_status(work)


if __name__ == "__main__":
  sys.exit(main(sys.argv))
