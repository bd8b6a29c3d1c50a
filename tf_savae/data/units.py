"""What a document is cut into besides words: characters, or pieces that SentencePiece learned.

vocabulary = make("char", texts, max_size=200, min_count=1)
ids = vocabulary.encode(vocabulary.split("a text"))
text = vocabulary.decode(ids)
"""

from __future__ import annotations

import collections
import functools
import io
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from tf_savae import startup
from tf_savae.atomic_files import writing
from tf_savae.data.vocabulary import Vocabulary
from tf_savae.errors import UserError, reason
from tf_savae.tokens import END, PAD, SPECIAL, START, UNKNOWN

UNITS = ("word", "char", "sentencepiece")
MODEL_FILE = "sentencepiece.model"  # beside vocabulary.txt
SPACE = "\u2581"  # ▁, in the place of a space: entries of a vocabulary have none
UNKNOWN_CHARACTER = "\U000f0000"  # of private use: no vocabulary has it


class _Joined(Vocabulary):
  """A vocabulary whose entries follow each other without spaces."""

  def join(self, entries: Iterable[str]) -> str:
    return "".join(entries).replace(SPACE, " ").strip()


class CharVocabulary(_Joined):
  """Characters. White space of any length is one space, and none at the ends of a text."""

  units, plural = "char", "characters"

  def split(self, text: str) -> list[str]:
    return list(" ".join(text.split()).replace(" ", SPACE))


class PieceVocabulary(_Joined):
  """The pieces of a SentencePiece model, whose ids are those of the model.

  Source: T. Kudo and J. Richardson, *SentencePiece*, EMNLP 2018, arXiv 1808.06226.

  Args:
    model: the serialised model, with the special tokens of `tf_savae.tokens` as its first ids.

  Raises:
    UserError: it is no such model, or SentencePiece is not installed.
  """

  units, plural = "sentencepiece", "pieces"

  def __init__(self, model: bytes):
    startup.require_text()
    import sentencepiece

    sentencepiece.set_min_log_level(2)  # errors
    self.model = model
    try:
      self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
      pieces = [self._processor.id_to_piece(i) for i in range(len(self._processor))]
    except Exception as error:  # RuntimeError, or one of its own
      raise UserError(f"{MODEL_FILE} is damaged: {reason(error)}; restore it") from error
    super().__init__(pieces)
    # A text may well have the piece "UNK".
    self._ids = {piece: i for i, piece in enumerate(self.words) if piece not in SPECIAL}

  def split(self, text: str) -> list[str]:
    # SentencePiece learns nothing from "_UNK" in a corpus, and would cut it into letters that other words taught it.
    text = " ".join(text.split()).replace(SPECIAL[UNKNOWN], UNKNOWN_CHARACTER)
    return self._processor.encode(text, out_type=str)

  def save(self, path: str | os.PathLike[str]) -> None:
    super().save(path)
    with writing(pathlib.Path(path).with_name(MODEL_FILE)) as new:
      new.write_bytes(self.model)


def make(units: str, texts: Iterable[str], *, max_size: int, min_count: int) -> Vocabulary:
  """A vocabulary of characters or of pieces from training documents.

  Args:
    units: "char" or "sentencepiece".
    texts: the documents.
    max_size: how many entries to have besides the special ones, at most.
    min_count: "char": rarer characters are left out.

  Raises:
    UserError: no entry is left, or the pieces cannot be learned from so little text.
  """
  if units == "char":
    split = functools.partial(CharVocabulary.split, None)  # type: ignore[arg-type] # needs no vocabulary
    counts: collections.Counter[str] = collections.Counter()
    for text in texts:
      counts.update(split(text))
    return CharVocabulary.from_counts(counts, max_size=max_size, min_count=min_count)
  return PieceVocabulary(_learn(texts, max_size))


def load(path: str | os.PathLike[str], units: str) -> Vocabulary:
  """The vocabulary that a run saved, of the units of its settings.

  Raises:
    UserError: a file of it is missing or damaged.
  """
  if units == "word":
    return Vocabulary.load(path)
  if units == "char":
    return CharVocabulary.load(path)
  file = pathlib.Path(path).with_name(MODEL_FILE)
  try:
    return PieceVocabulary(file.read_bytes())
  except OSError as error:
    raise UserError(f"{file} cannot be read: {reason(error)}; restore it") from error


def _learn(texts: Iterable[str], size: int) -> bytes:
  """A model of the kind "unigram", a function of the texts: one thread, no sampling."""
  startup.require_text()
  import sentencepiece

  model = io.BytesIO()
  options: dict[str, Any] = {
    **{"pad_id": PAD, "bos_id": START, "eos_id": END, "unk_id": UNKNOWN},
    **dict(zip(("pad_piece", "bos_piece", "eos_piece", "unk_piece"), _special(), strict=True)),
  }
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=(" ".join(text.split()) for text in texts),
      model_writer=model,
      model_type="unigram",
      vocab_size=size + len(SPECIAL),
      hard_vocab_limit=False,  # fewer, if there is not enough text
      normalization_rule_name="identity",  # nothing is made small, no character replaced
      max_sentence_length=1 << 20,
      num_threads=1,
      minloglevel=2,
      **options,
    )
  except Exception as error:  # RuntimeError, or one of its own
    raise UserError(
      f"SentencePiece learned nothing from the training documents ({reason(error)}); give more text, or another"
      " --vocab_size"
    ) from error
  return model.getvalue()


def _special() -> Sequence[str]:
  return [SPECIAL[i] for i in (PAD, START, END, UNKNOWN)]
