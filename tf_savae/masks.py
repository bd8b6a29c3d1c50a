"""Masks of images by name or from a file: 1 for pixels that were seen. No TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tf_savae.errors import UserError, reason

HALVES = ("upper", "lower", "left", "right")


def of_half(name: str, height: int, width: int) -> np.ndarray:
  """A mask `[height, width]`, float32, of which the named half was seen."""
  row, column = np.mgrid[0:height, 0:width]
  seen = {
    "upper": row < height // 2,
    "lower": row >= height // 2,
    "left": column < width // 2,
    "right": column >= width // 2,
  }
  return seen[name].astype(np.float32)


def read(text: str, shape: Sequence[int | None]) -> np.ndarray:
  """The mask that a command line names.

  Args:
    text: one of `HALVES`, the half of an image that was seen, or a .npy file of 1 where it was seen and 0 elsewhere.
    shape: of a mask: that of the observations, without channels.

  Returns:
    float32 of that shape, or `[n, *shape]`.

  Raises:
    UserError: there is no such file, or it holds something else.
  """
  if text in HALVES:
    if len(shape) != 2 or None in shape:
      raise UserError(
        f"--mask={text} is of images; the observations have the shape {list(shape)}; give a file"
      )
    return of_half(text, *shape)  # type: ignore[arg-type] # no None among them
  if Path(text).suffix != ".npy":
    raise UserError(f"--mask must be {', '.join(HALVES)} or an .npy file; received {text}")
  try:
    mask = np.load(text, allow_pickle=False)
  except (OSError, ValueError, EOFError) as error:
    raise UserError(f"--mask={text} cannot be read: {reason(error)}") from error
  wanted = ", ".join("length" if size is None else str(size) for size in shape)
  if not any(len(s) == len(shape) and _fits(s, shape) for s in (mask.shape, mask.shape[1:])):
    raise UserError(
      f"--mask={text} must have the shape [{wanted}] or [n, {wanted}]; received {list(mask.shape)}"
    )
  if mask.dtype.kind not in "biuf" or not np.isin(mask, (0, 1)).all():
    raise UserError(f"--mask={text} must hold 1 where x was seen and 0 elsewhere; received other values")
  return mask.astype(np.float32)


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
  return all(w in (None, s) for s, w in zip(shape, wanted, strict=True))
