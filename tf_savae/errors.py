"""The one exception that means: the user can fix this."""


class UserError(ValueError):
  """Bad input. Its text is one line: what is wrong, what was received, what to do.

  Command lines print the text and exit with status 1; they never show a traceback for it.
  """
