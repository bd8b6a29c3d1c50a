"""Draws a small set of pictures in colour: a disc, a square, a triangle or a ring on a shaded ground.

  python testdata/make_colour_shapes.py FOLDER [NUMBER] [SIDE]

FOLDER/train, valid and test get PNG files of SIDE × SIDE pixels (32), in folders named after the shape. Of NUMBER
pictures (2,000), 80 % are for training, and 10 % each for validation and the test. A picture is a function of its
number alone.
"""

from __future__ import annotations

import colorsys
import pathlib
import sys

import numpy as np
from PIL import Image

SHAPES = ("disc", "ring", "square", "triangle")

_SEED = 16
_FINE = 4  # fine pixels per side of a pixel


def picture(number: int, side: int = 32) -> tuple[np.ndarray, str]:
  """One picture, uint8 `[side, side, 3]`, and the name of its shape."""
  rng = np.random.default_rng([_SEED, number])
  shape = SHAPES[number % len(SHAPES)]
  fine = (np.arange(side * _FINE) + 0.5) / (side * _FINE)
  y, x = np.meshgrid(fine, fine, indexing="ij")
  hue, other = rng.random(), rng.random()
  ground = _shaded(_colour(other, 0.35, 0.9), _colour(other + 0.1, 0.5, 0.5), x, y, rng.uniform(0, 2 * np.pi))
  paint = np.array(_colour(hue, 0.9, 0.9))
  covered = _inside(shape, x - rng.uniform(0.3, 0.7), y - rng.uniform(0.3, 0.7), rng.uniform(0.16, 0.3), rng)
  values = np.where(covered[..., np.newaxis], paint, ground)
  values = values.reshape(side, _FINE, side, _FINE, 3).mean(axis=(1, 3))
  return np.uint8(np.round(255 * values)), shape


def _colour(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
  return colorsys.hsv_to_rgb(hue % 1.0, saturation, value)


def _shaded(one, other, x, y, angle):
  """From one colour to another across the picture."""
  along = 0.5 + 0.7 * ((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle))
  along = np.clip(along, 0, 1)[..., np.newaxis]
  return (1 - along) * np.array(one) + along * np.array(other)


def _inside(shape, x, y, size, rng):
  angle = rng.uniform(0, 2 * np.pi)
  x, y = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
  distance = np.hypot(x, y)
  if shape == "disc":
    return distance < size
  if shape == "ring":
    return (distance < size) & (distance > 0.6 * size)
  if shape == "square":
    return np.maximum(np.abs(x), np.abs(y)) < 0.85 * size
  return (y < 0.5 * size) & (np.abs(x) * np.sqrt(3) < y + size)


def write(folder: pathlib.Path, number: int, side: int) -> None:
  """Writes all pictures."""
  for i in range(number):
    pixels, shape = picture(i, side)
    # Each split gets all shapes: ten times four pictures in turn.
    place = (i // len(SHAPES)) % 10
    split = "test" if place == 9 else "valid" if place == 8 else "train"
    path = folder / split / shape / f"{i:06d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def main(words: list[str]) -> None:
  """Runs the command line."""
  if not 1 <= len(words) <= 3:
    sys.exit(f"usage: {pathlib.Path(__file__).name} FOLDER [NUMBER] [SIDE]")
  number, side = (
    int(given) if given else default for given, default in zip([*words[1:], "", ""], (2000, 32), strict=False)
  )
  write(pathlib.Path(words[0]), number, side)


if __name__ == "__main__":
  main(sys.argv[1:])
