"""Documents: rows of token ids, `[batch, length]` int32, padded at the end; see `tf_savae.tokens`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_savae import tokens
from tf_savae.data import units
from tf_savae.data.dataset import SPLITS, DataSet
from tf_savae.data.text import TextDataSet, dataset_from_file
from tf_savae.data.vocabulary import UNKNOWN_NAMES, Vocabulary
from tf_savae.evaluation.posteriors import Posteriors
from tf_savae.generation.samples import write_samples
from tf_savae.kind import Kind
from tf_savae.model import SAVAE
from tf_savae.networks import decoding
from tf_savae.runs.config import RunConfig
from tf_savae.runs.directory import RunDirectory
from tf_savae.runs.restore import Restored
from tf_savae.serving.payloads import FromLatent, Input, Output, Payloads, checked
from tf_savae.serving.sentences import Tokenizer, tokenizer_for

_LABEL_WORDS = 12  # number of a document's words in its label in the projector


class TextKind(Kind):
  """Documents of any length, with perplexities, texts written by the model, and signatures that take sentences."""

  examples = "documents"
  has_one_shape = False
  writes = True

  def facts(self, data: TextDataSet) -> dict[str, Any]:
    words = "\n".join(data.vocabulary.words).encode()
    digest = hashlib.sha256(words).hexdigest()[:16]
    return {
      **{f"{split}_tokens": data.num_tokens(split) for split in SPLITS},
      "vocabulary": f"{len(data.vocabulary)} {data.vocabulary.plural}, sha256 {digest}",
    }

  def keep(self, data: TextDataSet, run: RunDirectory) -> None:
    if not run.vocabulary_file.exists():
      data.vocabulary.save(run.vocabulary_file)

  def kept(self, run: RunDirectory) -> dict[str, Any]:
    config = run.read_config()
    has_words = config is not None and run.vocabulary_file.exists()
    return {"vocabulary": units.load(run.vocabulary_file, config.units) if has_words else None}

  def outline(self, config: RunConfig, run: RunDirectory) -> DataSet:
    vocabulary = units.load(run.vocabulary_file, config.units)
    return _Outline(config.dataset, vocabulary, config.max_length, config.seed)

  def from_file(self, path: str, config: RunConfig, run: RunDirectory) -> TextDataSet:
    vocabulary = units.load(run.vocabulary_file, config.units)
    return dataset_from_file(
      path, vocabulary, config.max_length, config.seed, config.dataset, text_column=config.text_column
    )

  def lengths(self, x: Any) -> np.ndarray:
    return tokens.lengths(tf.convert_to_tensor(x)).numpy()

  def mean_length(self, data: TextDataSet, split: str) -> float:
    return data.num_tokens(split) / data.num_examples(split)

  def results(self, config: RunConfig) -> dict[str, Any]:
    return {"decoder": config.decoder_name, "word_dropout": config.word_dropout}

  def write_samples(
    self,
    model: SAVAE,
    data: TextDataSet,
    x: np.ndarray,
    posteriors: Posteriors | None,
    writer: tf.summary.SummaryWriter,
    step: int,
  ) -> None:
    write_samples(model, data, x, posteriors, writer, step)

  def projector_columns(self, x: np.ndarray, data: TextDataSet) -> Mapping[str, Sequence[object]]:
    beginnings = [_beginning(data.vocabulary.decode(row)) for row in x]
    return {"tokens": np.count_nonzero(x != tokens.PAD, axis=1), "document": beginnings}

  def payloads(self, trained: Restored, seed: int) -> Payloads:
    decoder, vocabulary = trained.model.decoder, trained.vocabulary
    file = RunDirectory(trained.config.run_dir).vocabulary_file
    tokenizer = tokenizer_for(vocabulary, file, decoder.max_length)
    what = "words with spaces between" if vocabulary.units == "word" else vocabulary.plural
    text = f"sentence, UTF-8: {what}, unknown ones as `_UNK`"

    def greedy(z):
      return tokenizer.decode(decoding.generate(decoder, z))

    return Payloads(
      {"": _sentence(tokenizer, vocabulary, file.name), "_ids": _ids(tokenizer, file.name)},
      "_ids",
      Output("sentence", tokenizer.decode, tf.TensorSpec([], tf.string), f"x ~ p(x): {text}"),
      FromLatent("sample", "sentence", "sentence", greedy, f"{text}; the likeliest after each"),
      {
        "tokens": (
          tokens.lengths,
          f"{vocabulary.plural} and END, int32: perplexity is exp(−Σ elbo / Σ tokens)",
        ),
        "unknown": (
          tokens.num_unknown,
          f"how many {vocabulary.plural} are not in the vocabulary, int32; the model reads each as `_UNK`",
        ),
      },
      tokenizer.tables,
    )


class _Outline(DataSet):
  """A corpus without documents, from which networks can be built."""

  kind = "text"

  def __init__(self, name: str, vocabulary: Vocabulary, max_words: int, seed: int):
    super().__init__(name=name, source="none", is_stand_in=False, seed=seed)
    self.vocabulary = vocabulary
    self.vocab_size = len(vocabulary)
    self.max_length = max_words + 1  # END counts here

  def num_examples(self, split: str) -> int:
    return 1

  def eval_batches(self, split: str, batch_size: int) -> tf.data.Dataset:
    spec = tf.TensorSpec([None, None], tf.int32)
    return tf.data.Dataset.from_generator(lambda: iter(()), output_signature=spec)

  def _train_batch(self, rows, step):
    raise NotImplementedError

  def _eval_batch(self, split, rows):
    raise NotImplementedError


def _beginning(text: str) -> str:
  words = text.split()
  return " ".join(words[:_LABEL_WORDS]) + (" …" if len(words) > _LABEL_WORDS else "")


def _sentence(tokenizer: Tokenizer, vocabulary: Vocabulary, asset: str) -> Input:
  words = vocabulary.words[len(tokens.SPECIAL) :]
  small = all(word == word.lower() for word in words)
  plural = vocabulary.plural
  how = {
    "word": f"Words are what white space separates, as in training, looked up as they are among the {len(words):,} of"
    f" `assets/{asset}`",
    "char": f"Characters are looked up as they are among the {len(words):,} of `assets/{asset}`, white space of any"
    " length as one space",
    "sentencepiece": f"It is cut by the SentencePiece model of `assets/{units.MODEL_FILE}`, by an operation of"
    f" TensorFlow Text, into some of its {len(words):,} pieces",
  }[vocabulary.units]
  unknown = ", ".join(f"`{name}`" for name in sorted(UNKNOWN_NAMES))
  also = (
    f", and so do {unknown} and whatever else names a special token" if vocabulary.units == "word" else ""
  )
  return Input(
    tf.TensorSpec([None], tf.string, "sentence"),
    lambda sentence: tokenizer.encode(checked("sentence", sentence, [])),
    tokenizer.example_sentences,
    f"sentence, UTF-8, of at most {tokenizer.max_words} {plural}; more are an error. {how}"
    f"{', which has no capital letters: send small ones' if small else ''}. Others count as unknown{also}. No"
    f" {plural} at all is an empty document, END alone",
  )


def _ids(tokenizer: Tokenizer, asset: str) -> Input:
  return Input(
    tf.TensorSpec([None, None], tf.int32, "x"),
    lambda x: tokenizer.checked(checked("x", x, [None])),
    tokenizer.example_documents,
    f"token ids `[length]`, int32, line numbers from 0 of `assets/{asset}`: {tokenizer.plural}, END = {tokens.END},"
    f" then PAD = {tokens.PAD} up to any common length (with server-side batching one that all clients share); unknown"
    f" ones are {tokens.UNKNOWN}",
  )


KIND = TextKind()
