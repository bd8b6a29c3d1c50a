"""Draws tf_savae/data/omniglot_standin.mat: made-up characters in the format of chardata.mat.

  python testdata/make_omniglot_standin.py [OUTPUT]

A character is one to four strokes, each a cubic Bézier curve that often starts on an earlier one. A drawing
of it is shaky, tilted, stretched and moved a little, and written with a pen of its own width. Everything is a
function of the character's number, so any part can be drawn again alone. Takes about ten seconds.
"""

from __future__ import annotations

import math
import pathlib
import sys

import numpy as np
import scipy.io
import scipy.spatial
import tensorflow as tf

NUM_CHARACTERS = 100
TRAIN_DRAWINGS = 20  # of each character
TEST_DRAWINGS = 4
OUTPUT = pathlib.Path(__file__).parents[1] / "tf_savae" / "data" / "omniglot_standin.mat"

_SEED = 28
_SIDE = 28
_FINE = 4  # fine pixels per side of a pixel: ink is the share of these 16 that the pen covers
_CURVE_POINTS = 120
_MAX_DRAWS = 2048  # random numbers available per character


class _Draws:
  """Uniform numbers in turn from the stateless stream of one character."""

  def __init__(self, character: int):
    self._rest = iter(tf.random.stateless_uniform([_MAX_DRAWS], [_SEED, character]).numpy())

  def uniform(self, low: float, high: float) -> float:
    return low + (high - low) * float(next(self._rest))

  def choose(self, *options):
    return options[int(self.uniform(0, len(options)))]

  def shake(self, shape: tuple[int, ...], size: float) -> np.ndarray:
    return np.array([self.uniform(-size, size) for _ in range(math.prod(shape))]).reshape(shape)


def character_drawings(character: int) -> np.ndarray:
  """All drawings of one character, float32 `[drawings, 28, 28]` in [0, 1], upright, ink = 1."""
  draws = _Draws(character)
  strokes = _strokes(draws)
  return np.stack([_ink(*_written(strokes, draws)) for _ in range(TRAIN_DRAWINGS + TEST_DRAWINGS)])


def _strokes(draws: _Draws) -> np.ndarray:
  """Control points `[strokes, 4, 2]` of a character, as (x, y) in [-1, 1]²."""
  strokes: list[np.ndarray] = []
  for _ in range(draws.choose(1, 2, 3, 3, 4, 4)):
    if strokes and draws.uniform(0, 1) < 0.7:
      start = _bezier(draws.choose(*strokes))[draws.choose(0, _CURVE_POINTS // 2, -1)]
    else:
      start = draws.shake((2,), 0.8)
    # Mostly down, right, or diagonal, as a hand writes.
    angle = draws.choose(0.0, 0.0, 0.25, 0.5, 0.5, 0.75) * math.pi + draws.uniform(-0.15, 0.15)
    along = draws.uniform(0.6, 1.5) * np.array([math.cos(angle), math.sin(angle)])
    across = np.array([-along[1], along[0]])
    # No bend: a line; equal bends: an arc or a loop; opposite bends: an S.
    first, second = draws.choose(
      (0, 0), (0, 0), (0.4, 0.4), (-0.4, -0.4), (0.9, 0.9), (0.7, -0.7), (-1.2, -0.9)
    )
    # A stroke that bends far enough may come back to where it began.
    end = start + along * (draws.choose(1.0, 0.2) if abs(first) > 0.5 else 1.0)
    strokes.append(
      np.stack([start, start + along / 3 + first * across, end - along / 3 + second * across, end])
    )
  points = np.stack(strokes)
  curves = np.concatenate([_bezier(stroke) for stroke in points])
  low, high = curves.min(axis=0), curves.max(axis=0)
  # Fills the frame in its longer direction.
  return (points - (low + high) / 2) / max((high - low).max() / 2, 0.3)


def _bezier(control: np.ndarray) -> np.ndarray:
  """Points `[_CURVE_POINTS, 2]` along the cubic Bézier curve with control points `[4, 2]`."""
  t = np.linspace(0, 1, _CURVE_POINTS)[:, np.newaxis]
  s = 1 - t
  return s**3 * control[0] + 3 * s**2 * t * control[1] + 3 * s * t**2 * control[2] + t**3 * control[3]


def _written(strokes: np.ndarray, draws: _Draws) -> tuple[np.ndarray, float]:
  """One person's version: points `[points, 2]` on the paper, in pixels, and the pen's radius."""
  shaky = strokes + draws.shake(strokes.shape, 0.09)
  tilt = draws.uniform(-0.15, 0.15)
  turn = np.array([[math.cos(tilt), -math.sin(tilt)], [math.sin(tilt), math.cos(tilt)]])
  stretch = np.diag([draws.uniform(0.75, 1.05), draws.uniform(0.75, 1.05)])
  centre = _SIDE / 2 + draws.shake((2,), 1.2)
  points = np.concatenate([_bezier(stroke) for stroke in shaky])
  return points @ (turn @ stretch).T * 10.5 + centre, draws.uniform(0.52, 0.72)


def _ink(points: np.ndarray, radius: float) -> np.ndarray:
  """The share `[28, 28]` of each pixel that a round pen covers on its way along `points`."""
  fine = _SIDE * _FINE
  centres = (np.arange(fine) + 0.5) / _FINE
  y, x = np.meshgrid(centres, centres, indexing="ij")
  distance, _ = scipy.spatial.cKDTree(points).query(np.stack([x, y], axis=-1), distance_upper_bound=1.0)
  covered = (distance <= radius).reshape(_SIDE, _FINE, _SIDE, _FINE)
  return covered.mean(axis=(1, 3), dtype=np.float32)


def as_columns(images: np.ndarray) -> np.ndarray:
  """Images `[n, 28, 28]` as the columns `[784, n]` of chardata.mat, each image column by column."""
  return images.transpose(0, 2, 1).reshape(len(images), -1).T


def main() -> None:
  drawings = np.stack([character_drawings(character) for character in range(NUM_CHARACTERS)])
  train, test = (
    np.concatenate(part) for part in (drawings[:, :TRAIN_DRAWINGS], drawings[:, TRAIN_DRAWINGS:])
  )
  output = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
  scipy.io.savemat(output, {"data": as_columns(train), "testdata": as_columns(test)}, do_compression=True)


if __name__ == "__main__":
  main()
