"""The stand-in is what its committed generator draws, and has topics that a latent could tell."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from tf_savae.data import text_lines, yahoo

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generator(loaded):
  return loaded(ROOT / "testdata" / "make_text_standin.py")


@pytest.fixture(scope="module")
def committed():
  return list(text_lines.documents(yahoo.STAND_IN))


@pytest.mark.parametrize("number", [0, 1, 777, 1999])
def test_the_generator_draws_the_committed_documents(generator, committed, number):
  assert generator.document(number).split() == committed[number]


def test_it_is_small_and_no_document_is_repeated(generator, committed):
  assert len(committed) == generator.NUM_DOCUMENTS
  assert len(set(map(tuple, committed))) == len(committed)
  assert yahoo.STAND_IN.stat().st_size < 100_000
  assert max(map(len, committed)) <= 110
  assert gzip.decompress(yahoo.STAND_IN.read_bytes()).endswith(b"\n")


def test_a_document_keeps_to_one_topic(generator, committed):
  marks = {
    topic: set(words["person"].split("|")) | set(words["part"].split("|"))
    for topic, words in generator._TOPICS.items()
  }
  share = []
  for words in committed[:200]:
    counts = np.array([sum(word in mark for word in words) for mark in marks.values()])
    share.append(counts.max() / max(counts.sum(), 1))
  assert np.mean(share) > 0.85  # some words belong to two topics
