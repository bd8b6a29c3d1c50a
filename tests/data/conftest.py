"""Builders of small files laid out like the real sources."""

from __future__ import annotations

import importlib.util
import io
import pathlib
import types
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
import scipy.io
from PIL import Image


class Folder:
  """A data directory with a folder `omniglot` that tests fill."""

  def __init__(self, path: pathlib.Path):
    self.data_dir = path
    self.omniglot = path / "omniglot"
    self.omniglot.mkdir()

  @staticmethod
  def ink(number: int, side: int = 105) -> np.ndarray:
    """A made-up drawing, bool `[side, side]`, another one for every number up to 40; True = ink."""
    ink = np.zeros((side, side), bool)
    ink[10 : 20 + number, 15:19] = True
    ink[40:44, 15 : 60 + number] = True
    return ink

  @staticmethod
  def png(ink: np.ndarray) -> bytes:
    """A black-and-white PNG as in the release: ink is black."""
    buffer = io.BytesIO()
    Image.fromarray(~ink).save(buffer, format="PNG")
    return buffer.getvalue()

  def zip(self, name: str, members: dict[str, bytes]) -> pathlib.Path:
    """Writes a zip whose members lie in a folder of its own name."""
    path = self.omniglot / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
      archive.mkdir(path.stem)
      for member, content in members.items():
        archive.writestr(f"{path.stem}/{member}", content)
    return path

  def drawings(self, alphabet: str, numbers: range) -> dict[str, bytes]:
    return {f"{alphabet}/character01/{n:04d}_01.png": self.png(self.ink(n)) for n in numbers}

  def mat(self, **arrays) -> pathlib.Path:
    path = self.omniglot / "chardata.mat"
    scipy.io.savemat(path, arrays, do_compression=True)
    return path


@pytest.fixture
def folder(tmp_path) -> Folder:
  return Folder(tmp_path)


@pytest.fixture(scope="session")
def columns():
  """Random grey images as the columns `[784, n]` of a chardata.mat."""
  return lambda n, seed=0: np.random.default_rng(seed).uniform(size=(784, n)).astype(np.float32)


@pytest.fixture(scope="session")
def loaded() -> Callable[[pathlib.Path], types.ModuleType]:
  """Imports a script that lies in no package."""

  def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

  return load


@pytest.fixture(scope="session")
def damaged() -> Callable[[pathlib.Path, str], None]:
  """Spoils a file in one of the ways "directory", "truncated", "empty", "text", "absent"."""

  def damage(path, how):
    content = path.read_bytes()
    path.unlink()
    match how:
      case "directory":
        path.mkdir()
      case "truncated":
        path.write_bytes(content[: len(content) // 3])
      case "empty":
        path.write_bytes(b"")
      case "text":
        path.write_bytes(b"<html>not found</html>\n" * 9)

  return damage
