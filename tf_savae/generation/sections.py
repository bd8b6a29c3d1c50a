"""The parts of a report: samples, reconstructions of sentences, and the line between two of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_savae.generation import report
from tf_savae.generation.sentences import Sentence, padded
from tf_savae.generation.writer import Writer, line


def samples(out: report.Report, writer: Writer, num: int) -> None:
  """Adds documents sampled from the model."""
  title = "Samples from the prior, z ~ N(0, I)" if writer.model.latent_dim else "Samples"
  out.add(f"## {title}", "", report.numbered(writer.prior_samples(num)))


def sentences(out: report.Report, writer: Writer, given: Sequence[Sentence]) -> None:
  """Adds, for each sentence, its tokens, its posterior, and the documents decoded from the mean and from a draw."""
  posteriors = writer.posteriors(padded(given))
  name = posterior_name(writer)
  means = writer.versions(tf.constant(posteriors.centers))
  draws = writer.versions(writer.draw(posteriors.final))
  for i, sentence in enumerate(given):
    out.add(
      f"## Sentence {i + 1}",
      "",
      report.block(
        [
          *report.sentence_rows(sentence, writer.vocabulary),
          *report.bound_rows(posteriors, i, len(sentence.ids)),
        ]
      ),
      "",
      f"from the mean of {name}:",
      "",
      report.block(report.version_rows(means[i])),
      "",
      f"from a draw z ~ {name}:",
      "",
      report.block(report.version_rows(draws[i])),
    )


def reconstructions(writer: Writer, given: Sequence[Sentence], means: np.ndarray) -> str:
  """A block of sentences, each with the greedy document at its posterior mean, `[n, latent]`."""
  texts = writer.greedy(tf.constant(means))
  name = f"mean of {posterior_name(writer)}"
  rows = [[("document", sentence.text), (name, text)] for sentence, text in zip(given, texts, strict=True)]
  return "\n\n".join(map(report.block, rows))


def interpolation(
  out: report.Report, writer: Writer, ends: tuple[Sentence, Sentence], points: int, by: str
) -> None:
  """Adds the documents along the line between the posterior means of two sentences; `by` is "greedy" or "beam"."""
  start, end = writer.posteriors(padded(ends)).centers
  z = line(start, end, points)
  texts = writer.greedy(z) if by == "greedy" else [beams[0][0] for beams in writer.beams(z)]
  shares = [f"{i / (points - 1):.0%}" for i in range(points)]
  out.add(
    f"## From sentence 1 to sentence 2, between the means of {posterior_name(writer)}, {by}",
    "",
    report.block(
      [
        ("from", ends[0].text),
        *zip(shares, texts, strict=True),
        ("to", ends[1].text),
      ]
    ),
  )


SHARES = (0.0, 0.5, 1.0, 1.5)  # of an attribute


def arithmetic(
  out: report.Report,
  writer: Writer,
  given: Sequence[Sentence],
  plus: Sequence[Sentence],
  minus: Sequence[Sentence],
) -> None:
  """Adds greedy documents at μ + s (mean μ of `plus` − mean μ of `minus`), for each sentence's μ and several s.

  Source: the arithmetic of Mikolov et al. (2013) on words, with the posterior means of sentences.
  """
  means = {
    name: writer.posteriors(padded(sentences)).centers
    for name, sentences in (("given", given), ("plus", plus), ("minus", minus))
  }
  direction = means["plus"].mean(axis=0) - means["minus"].mean(axis=0)
  out.add(
    f"## Arithmetic with the means of {posterior_name(writer)}",
    "",
    report.block(
      [*(("plus", each.text) for each in plus[:5]), *(("minus", each.text) for each in minus[:5])]
    ),
    "",
    f"The difference of {len(plus)} and {len(minus)} sentences has the length {np.linalg.norm(direction):.2f}.",
  )
  for sentence, mean in zip(given, means["given"], strict=True):
    z = mean + np.array(SHARES, direction.dtype)[:, np.newaxis] * direction
    texts = writer.greedy(tf.constant(z))
    rows = [(f"{share:+.0%}", text) for share, text in zip(SHARES, texts, strict=True)]
    out.add(report.block([("sentence", sentence.text), *rows]))


def posterior_name(writer: Writer) -> str:
  """The name of q, with the K of its λ."""
  return f"q_λ{writer.model.eval_k}"
