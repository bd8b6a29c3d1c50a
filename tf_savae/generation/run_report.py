"""Generates with a trained run; the result is shown, kept in the run's directory and logged for TensorBoard."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from tf_savae import data as data_lib
from tf_savae.errors import UserError
from tf_savae.evaluation import figures
from tf_savae.generation import pictures, report, sections
from tf_savae.generation.sentences import Reader, Sentence
from tf_savae.generation.settings import GenerateSettings
from tf_savae.generation.writer import Decoding, Writer
from tf_savae.kind import KINDS, Kind
from tf_savae.runs import run_data
from tf_savae.runs.directory import RunDirectory
from tf_savae.runs.restore import Restored, load_model


def write(settings: GenerateSettings, show: Callable[[str], None] = print) -> Path:
  """Generates a report, shows it part by part, and keeps it in the run directory and its logs for TensorBoard.

  Returns:
    The new file in the run directory's `generations`: Markdown, or a picture for a run on images.

  Raises:
    UserError: there is no such run, its model cannot do what is asked for, or a sentence is unusable.
  """
  changes = {} if settings.eval_k is None else {"eval_k": settings.eval_k}
  restored = load_model(settings.run_dir, **changes)
  _check(settings, restored)
  directory = Path(restored.config.run_dir) / "generations"
  kind = KINDS.get(restored.kind)
  if not kind.writes:
    if settings.has_sentences:
      return _draw(restored, kind, settings, directory, show)
    path = draw_samples(restored, kind, settings, directory)
    show(f"{settings.num} samples from the prior: {path}")
    return path
  given, source = _sentences(restored, settings)
  if settings.interpolate and len(given) < 2:
    raise UserError(f"--interpolate needs two sentences; received {len(given)}: give another --sentence")
  out = report.Report(show)
  out.add(*_head(restored, settings, source))
  names = [field.name for field in dataclasses.fields(Decoding)]
  decoding = Decoding(**{name: getattr(settings, name) for name in names})
  writer = Writer(restored.model, restored.vocabulary, decoding)
  sections.samples(out, writer, settings.num)
  if given:
    sections.sentences(out, writer, given)
  if settings.interpolate:
    sections.interpolation(out, writer, (given[0], given[1]), settings.points, settings.interpolate_by)
  if settings.plus:
    reader = Reader(restored.vocabulary, restored.model.decoder.max_length)
    plus, minus = (_attribute(reader, texts, settings.num) for texts in (settings.plus, settings.minus))
    sections.arithmetic(out, writer, given, plus, minus)
  path = report.new_file(directory, "md")
  report.fill(path, out.text().encode())
  logs = Path(restored.config.run_dir) / "tensorboard" / "generations"
  _log(logs, f"generations/{path.stem}", out.text(), restored.step)
  show(f"written to {path}, and as text to {logs}")
  return path


def _check(settings: GenerateSettings, restored: Restored) -> None:
  """Raises UserError if the settings ask for something that the run's model cannot do."""
  received, kind = f"--run_dir={settings.run_dir}", KINDS.get(restored.kind)
  if not kind.writes and (settings.sentence or settings.file or settings.plus):
    raise UserError(
      f"{received} is a run on {kind.examples}, which reads no sentences; leave them out for samples"
    )
  if kind.writes and settings.of_images:
    raise UserError(
      f"{received} is a run on {kind.examples}, and --{settings.of_images[0]} is for images; leave it out"
    )
  if not kind.writes:
    _check_pictures(settings, restored, received)
  elif settings.has_sentences and not restored.model.latent_dim:
    raise UserError(
      f"{received} is a model without latent ({restored.config.model}): it has samples, but no sentence can be"
      " encoded; leave out --sentence, --file, --split"
    )


def _check_pictures(settings: GenerateSettings, restored: Restored, received: str) -> None:
  """`_check` of what is done with the examples of a split that are no sentences."""
  wanted = [name for name in ("complete", "interpolate", "traverse") if getattr(settings, name)]
  if settings.split and not wanted:
    raise UserError(
      f"--split={settings.split} of a run on {KINDS.get(restored.kind).examples} needs --complete, --interpolate or"
      " --traverse; received none of them"
    )
  for name in ("interpolate", "traverse"):
    if name in wanted and not restored.model.latent_dim:
      raise UserError(f"{received} is a model without latent ({restored.config.model}); leave --{name} out")
  if settings.traverse and not hasattr(restored.model.decoder, "decode"):
    raise UserError(f"{received} has a decoder without a method decode; leave --traverse out")
  if settings.interpolate and settings.num < 2:
    raise UserError(f"--interpolate needs two examples; received --num={settings.num}")


_ACTIVE_OF = 100  # examples that decide which latents are active


def _draw(
  restored: Restored, kind: Kind, settings: GenerateSettings, directory: Path, show: Callable[[str], None]
) -> Path:
  """Draws what the settings ask for about the first examples of a split; returns the last picture's path."""
  data = _data(restored, settings)
  model = restored.model

  def examples(num: int) -> Any:
    return data.examples(settings.split, min(num, data.num_examples(settings.split)))

  def made() -> Iterator[pictures.Rows]:
    if settings.complete:
      yield pictures.completion(model, examples(settings.num), settings.complete, settings.seed)
    if settings.interpolate:
      yield pictures.interpolation(model, examples(settings.num), settings.points, settings.seed)
    if settings.traverse:
      yield pictures.traversal(model, examples(_ACTIVE_OF))

  path = directory
  for rows in made():
    stand_in = " (stand-in data)" if data.is_stand_in else ""
    figure = kind.row_figure(rows.images, f"{settings.split}{stand_in}: {rows.text.partition(';')[0]}")
    if figure is None:
      raise UserError(
        f"--run_dir={settings.run_dir} is a run on {kind.examples} ({restored.config.dataset}), which cannot be drawn;"
        " name a run on images"
      )
    path = report.new_file(directory, "png")
    figures.save(figure, path)
    show(f"{rows.text}: {path}")
  return path


def _attribute(reader: Reader, texts: Sequence[str], num: int) -> list[Sentence]:
  """Sentences of --plus or --minus: each is one, or @FILE with one per line."""
  found = []
  for text in texts:
    if text.startswith("@"):
      found += reader.read_file(os.path.expanduser(text[1:]), num)
    else:
      found.append(reader.read(text, "--plus or --minus"))
  return found


def _sentences(restored: Restored, settings: GenerateSettings) -> tuple[list[Sentence], str]:
  """The requested sentences, and a description of where they come from."""
  reader = Reader(restored.vocabulary, restored.model.decoder.max_length)
  if settings.sentence:
    return [reader.read(text) for text in settings.sentence], "from the command line"
  if settings.file:
    given = reader.read_file(os.path.expanduser(settings.file), settings.num)
    return given, f"the first {len(given)} in {Path(settings.file).name}"
  if not settings.split:
    return [], ""
  data = _data(restored, settings)
  given = reader.of_rows(data.examples(settings.split, settings.num))
  elsewhere = f"; {data.source}" if settings.data_dir else ""
  return (
    given,
    f"the first {len(given)} of {data.num_examples(settings.split)} in {settings.split}{elsewhere}",
  )


def _data(restored: Restored, settings: GenerateSettings) -> Any:
  """The data of --split."""
  config = restored.config
  has_words = KINDS.get(restored.kind).writes
  data = data_lib.load(
    config.dataset,
    data_dir=settings.data_dir or config.data_dir,
    seed=config.seed,
    download=False,
    strict=config.strict_data,
    **run_data.options_of(config, RunDirectory(config.run_dir)),
    **({"vocabulary": restored.vocabulary} if has_words else {}),
  )
  return data.condition_on(config.condition) if config.condition else data


def _head(restored: Restored, settings: GenerateSettings, source: str) -> list[str]:
  config, model = restored.config, restored.model
  steps = f", K = {model.eval_k}" if model.latent_dim else ""
  penalty = f", length penalty {settings.length_penalty:g}" if settings.length_penalty else ""
  known = "" if settings.allow_unknown else "; _UNK is never written"
  rows = [
    ("model", f"{config.model}, {config.decoder_name} decoder{steps}; after {restored.step} updates"),
    ("trained on", (restored.results or {}).get("dataset_source", config.dataset)),
    ("sentences", source),
    (
      "sampled",
      f"with temperature {settings.temperature:g}, top-p {settings.top_p:g}, seed {settings.seed}{known}",
    ),
    ("beam search", f"{settings.num_beams} beams{penalty}; log p(x | z) in nats in brackets"),
  ]
  title = f"# What {Path(config.run_dir).resolve().name} writes"
  return [title, "", report.block([row for row in rows if row[1]])]


def draw_samples(restored: Restored, kind: Kind, settings: GenerateSettings, directory: Path) -> Path:
  """Draws samples from the prior to a new picture in `directory`, and returns its path.

  Raises:
    UserError: the decoder cannot sample, or its samples cannot be drawn.
  """
  if not hasattr(restored.model.decoder, "sample"):
    raise UserError(
      f"--run_dir={settings.run_dir} has a decoder that draws no samples: {type(restored.model.decoder).__name__}"
      " has no method sample; give it one"
    )
  samples = restored.model.sample(settings.num, settings.seed).numpy()
  figure = kind.sample_figure(samples, f"samples from the prior, seed {settings.seed}")
  if figure is None:
    raise UserError(
      f"--run_dir={settings.run_dir} is a run on {kind.examples} ({restored.config.dataset}), which are no words and"
      " cannot be drawn; name a run on text or images"
    )
  path = report.new_file(directory, "png")
  figures.save(figure, path)
  return path


def _log(directory: Path, tag: str, text: str, step: int) -> None:
  writer = tf.summary.create_file_writer(os.fspath(directory))
  with writer.as_default(step=step):
    tf.summary.text(tag, text)
  writer.close()
