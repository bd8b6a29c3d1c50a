"""The saliency of a trained run: numbers by token, tables, figures, and sentences with coloured words."""

from __future__ import annotations

import functools
import html
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tqdm

from tf_savae import atomic_files, tokens
from tf_savae.data.dataset import DataSet
from tf_savae.errors import UserError
from tf_savae.evaluation import examples, figures, per_example, saliency, saliency_groups, tables
from tf_savae.evaluation.saliency_figures import bars, coloured, maps
from tf_savae.runs import restore
from tf_savae.runs.directory import RunDirectory

WORDS = {
  "mean": "‖∂‖μ(λ_K)‖ / ∂e_t‖",
  "entropy": "‖∂H(q_λK) / ∂e_t‖",
  "output": "E_q ‖∂ log p(x_t | x_<t, z) / ∂z‖",
}


def of_run(
  run_dir: str | os.PathLike,
  *,
  split: str = "test",
  num: int = 500,
  spread: bool = False,
  batch_size: int = 10,
  eval_k: int | None = None,
  draws: int = 4,
  tagger: str = "none",
  shown: int = 10,
  data_dir: str | None = None,
) -> tuple[dict[str, Any], list[Path]]:
  """`measure` without the pictures."""
  result, files, _ = measure(
    run_dir,
    split=split,
    num=num,
    spread=spread,
    batch_size=batch_size,
    eval_k=eval_k,
    draws=draws,
    tagger=tagger,
    shown=shown,
    data_dir=data_dir,
  )
  return result, files


def measure(
  run_dir: str | os.PathLike,
  *,
  split: str,
  num: int,
  spread: bool,
  batch_size: int,
  eval_k: int | None,
  draws: int,
  tagger: str,
  shown: int,
  data_dir: str | None,
) -> tuple[dict[str, Any], list[Path], dict[str, Any]]:
  """Computes the saliency of a run on documents or images and writes it to the run's directory.

  Documents: saliency.json has the means by groups of tokens, saliency_tokens.npz the numbers of each token,
  saliency.png the groups, saliency_sentences.png and .html the first documents with coloured words. Images:
  saliency.json has the means over pixels, saliency_pixels.npz the maps, saliency.png the first of them. TensorBoard
  shows the pictures and the tables, too.

  Args:
    run_dir: directory of a trained run.
    split: "train", "valid" or "test".
    num: number of examples, from the first on, or all if there are fewer.
    spread: whether they are spread evenly over the split instead.
    batch_size: examples per batch.
    eval_k: number of SVI steps; default: that of the run.
    draws: documents: draws of z per example for the output saliency.
    tagger: documents: who tells parts of speech, a name in `saliency_groups.TAGGERS`.
    shown: number of examples in pictures.
    data_dir: where the data are; default: where they were in training.

  Returns:
    The content of saliency.json, the paths of the files, and the first examples: images with their maps, or
    documents as pairs of words and of their saliency by kind.

  Raises:
    UserError: there is no such run, or it has no saliency.
  """
  run_dir = Path(run_dir).expanduser()
  run, data = restore.load_with_data(run_dir, data_dir, **({} if eval_k is None else {"eval_k": eval_k}))
  if not run.model.method.has_encoder or run.kind not in ("text", "image"):
    raise UserError(
      "saliency needs a run on documents or images with an encoder; received"
      f" --run_dir={run_dir} with --dataset={run.config.dataset} --model={run.config.model}"
    )
  if run.kind == "image" and tagger != "none":
    raise UserError(
      f"--tagger={tagger} is for documents; received --run_dir={run_dir} with --dataset={run.config.dataset}; use"
      " --tagger=none"
    )
  num = min(num, data.num_examples(split))
  with tqdm.tqdm(total=num, unit="ex", desc=f"saliency on {split}", disable=None) as bar:
    work = {"num": num, "batch_size": batch_size, "spread": spread, "progress": bar.update}
    if run.kind == "text":
      result, files, pictures = _of_documents(run, data, run_dir, split, draws, tagger, shown, **work)
    else:
      result, files, pictures = _of_images(run, data, run_dir, split, shown, **work)
  about = {"model": run.config.model, "dataset_source": data.source, "eval_k": run.model.eval_k}
  result = {**about, "split": split, "spread": spread, "examples": num, **result}
  atomic_files.write_json(run_dir / "saliency.json", result)
  _log(run_dir, files, table(result), run.step)
  return result, [run_dir / "saliency.json", *files], pictures


def _log(run_dir: Path, files: Sequence[Path], text: str, step: int) -> None:
  """Shows the pictures among the files, and the tables, in TensorBoard at the update of the weights."""
  writer = tf.summary.create_file_writer(os.fspath(RunDirectory(run_dir).tensorboard / "saliency"))
  with writer.as_default(step=step):
    for file in files:
      if file.suffix == ".png":
        image = tf.io.decode_png(file.read_bytes(), channels=3)
        tf.summary.image(f"saliency/{file.stem}", image[tf.newaxis])
    tf.summary.text("saliency/tables", text)
  writer.close()


def of_tokens(
  model: Any,
  data: DataSet,
  split: str,
  num: int,
  batch_size: int,
  draws: int,
  spread: bool = False,
  progress: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray]:
  """One entry per token of the first `num` documents in each array: see `saliency_groups.summary`, and `id`.

  With `spread` they are `num` documents spread evenly over the split.
  """

  def values(x, seen):
    return {**saliency.of_inputs(model, x, seen), **saliency.of_outputs(model, x, seen, draws)}

  batches = examples.chosen(data, split, num, batch_size, spread)
  values = examples.traced(values, batches)
  counts, parts, seen = _counts(data), [], 0
  for x in batches:
    x = x[: num - seen]
    found = {name: value.numpy() for name, value in values(x, tf.constant(seen, tf.int64)).items()}
    ids = x.numpy()
    document, position = np.nonzero(tokens.is_token(ids).numpy())
    of_tokens = {name: value[document, position] for name, value in found.items()}
    ids = ids[document, position]
    parts.append(
      {"document": document + seen, "position": position + 1, "id": ids, "count": counts[ids], **of_tokens}
    )
    seen += len(x)
    if progress is not None:
      progress(len(x))
    if seen >= num:
      break
  return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _counts(data):
  """How often each id occurs in the training set, `[vocab]`."""
  total = np.zeros(data.vocab_size, np.int64)
  for x in data.eval_batches("train", 256):
    total += np.bincount(x.numpy().ravel(), minlength=data.vocab_size)
  return total


def _of_documents(run, data, run_dir, split, draws, tagger, shown, **work):
  rows = of_tokens(run.model, data, split, draws=draws, **work)
  words = [data.vocabulary.words[i] for i in rows["id"]]
  documents = np.split(np.arange(len(words)), np.flatnonzero(np.diff(rows["document"])) + 1)
  tags = _tags([[words[i] for i in document] for document in documents], tagger)
  groups = saliency_groups.summary(rows, tags)
  per_example.save(run_dir / "saliency_tokens.npz", rows if tags is None else rows | {"tag": tags})
  titles = {"mean": WORDS["mean"], "output": WORDS["output"]}
  title = f"{run.config.model}, K = {run.model.eval_k}, {split}: mean ± 2 s.e.{_honest(data)}"
  figures.save(bars(groups, titles, title), run_dir / "saliency.png")
  sentences = [
    ([words[i] for i in document], {name: rows[name][document] for name in titles})
    for document in documents[:shown]
  ]
  figures.save(coloured(sentences, titles), run_dir / "saliency_sentences.png")
  with atomic_files.writing(run_dir / "saliency_sentences.html") as new:
    Path(new).write_text(page(sentences, titles, title), encoding="utf-8")
  names = ("tokens.npz", "sentences.png", "sentences.html")
  files = [run_dir / "saliency.png", *(run_dir / f"saliency_{name}" for name in names)]
  return (
    {"tokens": len(words), "draws": draws, "tagger": tagger, "groups": groups},
    files,
    {"sentences": sentences},
  )


def _tags(documents, tagger):
  """Part of speech of every token; that of END is "END"."""
  tags = saliency_groups.parts_of_speech([document[:-1] for document in documents], tagger)
  if tags is None:
    return None
  for document, found in zip(documents, tags, strict=True):
    if len(found) != len(document) - 1:
      raise UserError(
        f"--tagger={tagger} finds {len(found)} words in a document of {len(document) - 1}:"
        f" {' '.join(document[:8])} …; use --tagger=none"
      )
  return np.array([tag for found in tags for tag in (*found, "END")])


def _of_images(run, data, run_dir, split, shown, num, batch_size, spread, progress):
  batches = examples.chosen(data, split, num, batch_size, spread)
  values = examples.traced(functools.partial(saliency.of_inputs, run.model), batches)
  rows = examples.rows(values, batches, num, progress, lambda x: {"image": np.asarray(x)})
  per_example.save(run_dir / "saliency_pixels.npz", {name: rows[name] for name in ("mean", "entropy")})
  title = f"{run.config.model}, K = {run.model.eval_k}, {split}{_honest(data)}"
  pictures = {name: rows[name][:shown] for name in ("image", "mean", "entropy")}
  figures.save(maps(pictures, title), run_dir / "saliency.png")
  means = {name: float(np.mean(np.sum(rows[name], axis=(1, 2)))) for name in ("mean", "entropy")}
  files = [run_dir / name for name in ("saliency.png", "saliency_pixels.npz")]
  return {"sum_over_pixels": means}, files, pictures


def _honest(data):
  """What a title adds where the data are not the real ones."""
  return ", stand-in data" if data.is_stand_in else ""


def page(
  sentences: Sequence[tuple[Sequence[str], Mapping[str, np.ndarray]]], titles: Mapping[str, str], title: str
) -> str:
  """An HTML page of documents whose words have a colour by their saliency, relative to the document's largest."""
  body = []
  for words, values in sentences:
    for name, of_words in values.items():
      largest = max(float(np.max(of_words)), 1e-30)
      spans = [
        f'<span style="background:rgba(214,39,40,{value / largest:.2f})" title="{value:.4g}">'
        f"{html.escape(word)}</span>"
        for word, value in zip(words, of_words, strict=True)
      ]
      body.append(f"<p><small>{html.escape(titles[name])}</small><br>{' '.join(spans)}</p>")
    body.append("<hr>")
  style = "body{font:16px/1.7 serif;max-width:50em;margin:2em auto;padding:0 1em}small{color:#777}"
  return (
    f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Saliency</title><style>{style}</style>'
    f"<h1>Saliency: {html.escape(title)}</h1>{''.join(body)}</html>\n"
  )


def table(result: Mapping[str, Any]) -> str:
  """The groups of documents as Markdown tables, mean ± standard error; for images the sums over pixels."""
  if "groups" not in result:
    sums = result["sum_over_pixels"]
    rows = [
      [words.replace("e_t", "x_i"), f"{sums[name]:.4g}"] for name, words in WORDS.items() if name in sums
    ]
    return tables.markdown([f"{result['examples']} images, K = {result['eval_k']}", "sum over pixels"], rows)
  parts = []
  for grouping, groups in result["groups"].items():
    names = [name for name in WORDS if name in groups[0]]
    rows = [
      [g["group"], f"{g['tokens']:,}", *(f"{g[n]:.4g} ± {g[f'{n}_se']:.2g}" for n in names)] for g in groups
    ]
    parts.append(tables.markdown([grouping.replace("_", " "), "tokens", *(WORDS[n] for n in names)], rows))
  return "\n\n".join(parts)
