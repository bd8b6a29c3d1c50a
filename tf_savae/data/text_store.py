"""Encoded documents on disk, so that a corpus larger than memory takes four bytes of memory per document."""

from __future__ import annotations

import array
import contextlib
import tempfile
from collections.abc import Sequence

import numpy as np

from tf_savae.errors import UserError, reason
from tf_savae.tokens import END, PAD, UNKNOWN

MULTIPLE = 8  # the length of every batch is a multiple of this


def padded_length(tokens: int) -> int:
  """The smallest positive multiple of `MULTIPLE` that is at least `tokens`."""
  return max(1, -(-tokens // MULTIPLE)) * MULTIPLE


class Documents:
  """Encoded documents in an unnamed temporary file, which disappears with this object.

  Attributes:
    lengths: number of tokens of each document, including its end, int32 `[documents]`.
    num_unknown: how many of all tokens are unknown.
  """

  def __init__(self, ids: np.ndarray, lengths: np.ndarray, num_unknown: int = 0):
    self.lengths = lengths
    self.num_unknown = num_unknown
    self._ids = ids
    self._ends = np.cumsum(lengths, dtype=np.int64)

  def __len__(self) -> int:
    return len(self.lengths)

  @property
  def num_tokens(self) -> int:
    return int(self._ends[-1]) if len(self) else 0

  def __getitem__(self, row: int) -> np.ndarray:
    """Ids `[tokens]` of one document, including its end."""
    end = self._ends[row]
    return self._ids[end - self.lengths[row] : end]

  def padded(self, rows: np.ndarray) -> np.ndarray:
    """Documents `rows` `[batch]` as int32 `[batch, length]`, where length is `padded_length` of the longest."""
    length = padded_length(int(self.lengths[rows].max(initial=0)))
    x = np.full([len(rows), length], PAD, np.int32)
    for i, row in enumerate(rows):
      x[i, : self.lengths[row]] = self[row]
    return x


class Writer:
  """Collects documents one by one.

  Args:
    vocab_size: ids are smaller than this; it decides how many bytes each id takes on disk.

  Raises:
    UserError: the directory for temporary files cannot be written. Every method may raise it, too.
  """

  def __init__(self, vocab_size: int):
    self._dtype = np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.int32)
    self._lengths = array.array("i")
    self._num_unknown = 0
    self._directory = None
    try:
      self._directory = tempfile.gettempdir()
      self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115
    except OSError as error:
      raise self._disk_error(error) from error

  def add(self, ids: Sequence[int]) -> None:
    """Appends a document; `ids` are its words, and the end is added to them."""
    try:
      self._file.write(np.array([*ids, END], self._dtype).tobytes())
    except OSError as error:
      raise self._disk_error(error) from error
    self._lengths.append(len(ids) + 1)
    self._num_unknown += ids.count(UNKNOWN)

  def finish(self) -> Documents:
    """The documents that were added; nothing can be added afterwards."""
    lengths = np.array(self._lengths, np.int32)
    try:
      self._file.flush()
      if not len(lengths):
        return Documents(np.empty(0, self._dtype), lengths)  # an empty file cannot be memory-mapped
      # The map keeps the file open.
      return Documents(np.memmap(self._file, self._dtype, mode="r"), lengths, self._num_unknown)
    except OSError as error:
      raise self._disk_error(error) from error
    finally:
      self._close()

  def _disk_error(self, error: OSError) -> UserError:
    self._close()
    return UserError(
      f"cannot write the encoded documents to {self._directory or 'any directory for temporary files'}: "
      f"{reason(error)}; make room, or set TMPDIR to a directory on another disk"
    )

  def _close(self) -> None:
    with contextlib.suppress(
      OSError, AttributeError
    ):  # the buffered bytes no longer fit, or there is no file
      self._file.close()
