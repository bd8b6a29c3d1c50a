"""Means of a token's saliency by part of speech, position, frequency and loss, with standard errors over documents."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tf_savae.errors import UserError

VALUES = ("mean", "entropy", "output")
TAGGERS = ("none", "textblob")

_POSITIONS = (1, 6, 11, 21, 41, 81)
_COUNTS = (1, 10, 100, 1_000, 10_000, 100_000)
_LOSSES = (0, 1, 2, 4, 6)
_LEAST = 20  # tokens of a part of speech that gets a row


def summary(
  rows: Mapping[str, np.ndarray], tags: np.ndarray | None = None
) -> dict[str, list[dict[str, Any]]]:
  """Means of groups of tokens.

  Args:
    rows: one entry per token in each array: `document`, `position` from 1, `count` in the training set, `loss` in nats,
      and the `VALUES` that there are.
    tags: part of speech of each token, if known.

  Returns:
    By grouping (`position`, `frequency`, `loss`, `part_of_speech`) its groups: `group`, `tokens`, and for every value
    the mean and its standard error `…_se`. Tokens of a document are not independent, so the standard error is that of a
    ratio of sums over documents.
  """
  groupings = {
    "position": _between(rows["position"], _POSITIONS, ""),
    "frequency": _between(rows["count"], _COUNTS, " times in train"),
  }
  if "loss" in rows:
    groupings["loss"] = _between(rows["loss"], _LOSSES, " nats", whole=False)
  if tags is not None:
    known, numbers = np.unique(tags, return_counts=True)
    frequent = [tag for tag, n in zip(known, numbers, strict=True) if n >= _LEAST]
    groupings["part_of_speech"] = [(str(tag), tags == tag) for tag in frequent]
  values = [name for name in VALUES if name in rows]
  return {
    name: [_group(label, chosen, rows, values) for label, chosen in groups if chosen.any()]
    for name, groups in groupings.items()
  }


def _between(values, edges, unit, whole=True):
  """(label, which tokens) for every interval; the last has no end."""
  groups = []
  for low, high in zip(edges, (*edges[1:], np.inf), strict=True):
    if np.isinf(high):
      label = f"{low:,} or more"
    elif whole:
      label = f"{low:,} to {high - 1:,}"
    else:
      label = f"{low} to {high}"
    groups.append((label + unit, (values >= low) & (values < high)))
  return groups


def _group(label, chosen, rows, values):
  _, document = np.unique(rows["document"][chosen], return_inverse=True)
  found = {"group": label, "tokens": int(chosen.sum()), "documents": int(document.max()) + 1}
  for name in values:
    mean = float(np.mean(rows[name][chosen]))
    of_documents = np.bincount(document, rows[name][chosen] - mean)
    found[name] = mean
    found[f"{name}_se"] = float(np.sqrt(np.sum(np.square(of_documents))) / chosen.sum())
  return found


def parts_of_speech(documents: Sequence[Sequence[str]], tagger: str) -> list[list[str]] | None:
  """Penn Treebank tag of every word of every document; None for the tagger "none".

  "textblob" is the lexicon and the rules of pattern.en, which TextBlob ships. Words must be separate, as in the files
  of documents here.

  Raises:
    UserError: the tagger is not installed.
  """
  if tagger == "none":
    return None
  try:
    tag = importlib.import_module("textblob.en").tag
  except ImportError as error:
    raise UserError(
      f"--tagger={tagger} needs TextBlob, which is not installed ({error}); pip install textblob, or give --tagger=none"
    ) from error
  return [[tags for _, tags in tag(" ".join(words), tokenize=False)] if words else [] for words in documents]
