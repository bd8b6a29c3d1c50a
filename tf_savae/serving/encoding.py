"""Posteriors of observations in files, offline: the same numbers that an export of the run would answer."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tqdm

from tf_savae import masks, observations
from tf_savae.atomic_files import atomic_write_text, writing
from tf_savae.errors import UserError, reason
from tf_savae.model import SAVAE
from tf_savae.runs import restore
from tf_savae.runs.directory import RunDirectory
from tf_savae.serving import client, payloads, rows
from tf_savae.serving.payloads import Payloads
from tf_savae.serving.rows import Row
from tf_savae.serving.serving_batch import ServingBatch, SharedNoise

FORMATS = (".npz", ".csv", ".parquet")


def encode(
  run_dir: str | os.PathLike[str],
  files: Sequence[str | os.PathLike[str]] = (),
  *,
  split: str | None = None,
  num: int | None = None,
  eval_k: int | None = None,
  seed: int = 0,
  batch_size: int = 50,
  data_dir: str | None = None,
  steps: Mapping[str, Any] | None = None,
  text_column: str | None = None,
  label: str | None = None,
  mask: str | None = None,
) -> dict[str, np.ndarray]:
  """λ_0 and λ_K of observations. A row's answer does not depend on other rows, as in an export with the same seed.

  Args:
    run_dir: directory of a trained run.
    files: see `tf_savae.serving.rows.of_files`.
    split: instead of files: "train", "valid" or "test" of the run's data.
    num: at most this many of the split's examples, from the first on.
    eval_k: K; default: the run's.
    seed: of the noise that all rows share, and of the binarisation of pictures.
    batch_size: rows at a time.
    data_dir: where the data of the split are; default: where they were in training.
    steps: settings of the SVI steps that differ from the run's, such as `{"svi_rule": "natural"}`.
    text_column: of the documents in .csv and .tsv files; default: the run's.
    label: of all files of a conditional model, a name or a number; default: .npz files have one for each row.
    mask: what was seen of an image: "upper", "lower", "left", "right", or an .npy file; see `masks.read`.

  Returns:
    Arrays by name: `name` of each row, str `[n]`; `mean` and `log_var` of λ_K and, with an encoder, `mean_initial` and
    `log_var_initial` of λ_0, each `[n, latent]`; `elbo_initial` and `elbo_refined`, nats, `[n]`. Other posterior
    families than the diagonal Gaussian have more, see `tf_savae.posteriors.PosteriorFamily.columns`.

  Raises:
    UserError: the run has no posterior, a setting does not fit it, or an observation cannot be read.
  """
  changes = dict(steps or {}) | ({} if eval_k is None else {"eval_k": eval_k})
  if split is None:
    trained, data = restore.load_model(run_dir, precision="float32", **changes), None
  else:
    trained, data = restore.load_with_data(run_dir, data_dir, precision="float32", **changes)
  if not trained.model.latent_dim:
    raise UserError(f"--run_dir={run_dir} is a run of --model={trained.config.model}, which has no posterior")
  form = payloads.of(trained, seed)
  if data is None:
    column = text_column or trained.config.text_column
    number = None if label is None else _number(label, trained, form)
    found: Iterable[Row] = rows.of_files(files, form, column, number)
  else:
    examples = data.examples(split, min(num or data.num_examples(split), data.num_examples(split)))
    found = (
      Row(f"{split}:{i}", form.plain, lambda i=i: observations.take(examples, i))
      for i in range(observations.size(examples))
    )
  seen = None if mask is None else _mask(mask, trained, form)
  return Encoder(trained.model, form, seed=seed, mask=seen)(found, batch_size)


def _number(label: str, trained: restore.Restored, form: Payloads) -> int:
  """The number of a label that is given by number or by name."""
  names = list(RunDirectory(trained.config.run_dir).data_facts().get("label_names", ()))
  if label in names:
    return names.index(label)
  count = trained.model.decoder.num_labels if form.condition is not None else len(names)
  if label.isdecimal() and (form.condition is None or int(label) < count):
    return int(label)
  raise UserError(
    f"--label must be a number from 0 to {count - 1} or one of {', '.join(names) or 'no names'}; received {label}"
  )


def _mask(mask: str, trained: restore.Restored, form: Payloads) -> np.ndarray:
  if form.mask is None:
    raise UserError(
      f"--mask needs a decoder that can tell parts of x apart, as those of images can; received"
      f" --run_dir={trained.config.run_dir}"
    )
  found = masks.read(mask, form.mask.specs["mask"].shape[1:].as_list())
  if found.ndim > form.mask.specs["mask"].shape.rank - 1:
    raise UserError(
      f"--mask={mask} must hold one mask for all rows; received {len(found)}; encode them by turns"
    )
  return found


class Encoder:
  """Encodes rows with a model; each form of input is traced once.

  Args:
    model: a model with a latent; K is its `eval_k`.
    form: how its observations are given.
    seed: of the noise that all rows share.
    mask: 1 where all rows were seen and 0 elsewhere; None: everything was.
  """

  def __init__(self, model: SAVAE, form: Payloads, seed: int = 0, mask: np.ndarray | None = None):
    self._model, self._form, self._mask = model, form, mask
    self._noise = SharedNoise.draw(seed, model.eval_k, model.latent_dim, model.svi.noise_draws)
    self._traced: dict[str, Any] = {}

  def __call__(self, found: Iterable[Row], batch_size: int = 50) -> dict[str, np.ndarray]:
    """The arrays that `encode` returns, for rows of any forms.

    Raises:
      UserError: there are no rows, or one of them cannot be encoded; the text names it.
    """
    parts: list[dict[str, np.ndarray]] = []
    with tqdm.tqdm(unit="row", desc="encode", disable=None) as bar:
      for batch in _batches(found, batch_size):
        names = np.array([row.name for row in batch], np.str_)
        parts.append({"name": names, **self._encode(batch)})
        bar.update(len(batch))
    if not parts:
      raise UserError("there is nothing to encode: the files have no observations; name others")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

  def _encode(self, batch: list[Row]) -> dict[str, np.ndarray]:
    suffix = batch[0].suffix
    values = [row.read() for row in batch]
    raw = self._input(batch, values, suffix)
    try:
      return {name: value.numpy() for name, value in self._graph(suffix)(raw).items()}
    except tf.errors.InvalidArgumentError as error:
      if len(batch) == 1:
        raise UserError(f"{batch[0].name}: {_message(error)}") from error
      for row in batch:  # to find the one that it was
        self._encode([row])
      raise

  def _input(self, batch: list[Row], values: list[Any], suffix: str) -> Any:
    given = self._form.inputs[suffix]
    if isinstance(given.spec, tf.TensorSpec):
      return self._tensor(batch, values, given.spec, self._model.decoder)
    parts = {name: [value[name] for value in values] for name in given.specs}
    whole = {name: self._tensor(batch, parts[name], spec, None) for name, spec in given.specs.items()}
    if suffix == self._form.plain:
      for row, value in zip(batch, values, strict=True):
        _check(self._model.decoder, row, {name: np.asarray(part) for name, part in value.items()})
    return whole

  def _tensor(self, batch: list[Row], values: list[Any], spec: tf.TensorSpec, decoder: Any) -> tf.Tensor:
    if spec.dtype == tf.string:
      return tf.constant(values, tf.string)
    values = list(map(np.asarray, values))
    if len({value.shape for value in values}) > 1:
      raise UserError(f"the arrays' rows must have one shape; pad them. Received: {batch[0].name} and others")
    for row, value in zip(batch, values, strict=True):
      _check(decoder, row, value)
      if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise UserError(f"{row.name} is not finite; leave it out")
    return tf.constant(np.stack(values).astype(spec.dtype.as_numpy_dtype))

  def _graph(self, suffix: str) -> Any:
    if suffix not in self._traced:
      given = self._form.inputs[suffix]
      graph = tf.function(lambda raw: self._values(given.to_x(raw)), autograph=False)
      spec = given.spec if isinstance(given.spec, tf.TensorSpec) else dict(given.spec)
      self._traced[suffix] = graph.get_concrete_function(spec)
    return self._traced[suffix]

  def _values(self, x: Any) -> dict[str, tf.Tensor]:
    batch = ServingBatch(self._model, x, self._model.eval_k, self._noise, self._mask)
    initial, refined = batch.start(), batch.posterior()
    family = self._model.family
    result = family.columns(refined)
    if self._model.method.has_encoder:
      result |= {f"{name}_initial": value for name, value in family.columns(initial).items()}
    bounds = {"elbo_initial": initial, "elbo_refined": refined}
    return result | {name: -batch.bound(params).neg_elbo for name, params in bounds.items()}


def _check(decoder: Any, row: Row, value: Any) -> None:
  try:
    observations.check(decoder, value)
  except UserError as error:
    raise UserError(f"{row.name}: {error}") from error


def write(encoded: Mapping[str, np.ndarray], output: str | os.PathLike[str]) -> None:
  """Writes what `encode` returned, atomically, as .npz, .csv (a column per number) or .parquet (lists).

  Raises:
    UserError: the name ends in none of these, pyarrow is not installed, or the file cannot be written.
  """
  path = Path(output)
  check_output(path)
  if path.suffix == ".csv":
    return atomic_write_text(path, client.as_text(encoded, "csv"))
  with writing(path) as new, open(new, "wb") as file:
    if path.suffix == ".npz":
      np.savez(file, **encoded)
    else:
      _write_parquet(encoded, file)
  return None


def check_output(path: str | os.PathLike[str]) -> None:
  """Raises a UserError if `write` could not write there because of the name, or for want of a package."""
  suffix = Path(path).suffix
  if suffix not in FORMATS:
    raise UserError(f"--output must end in {', '.join(FORMATS)}; received {path}")
  if suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
    raise UserError(
      "--output as .parquet needs pyarrow: pip install 'tf_savae[parquet]'; or name an .npz or .csv"
    )


def _write_parquet(encoded: Mapping[str, np.ndarray], file: Any) -> None:
  import pyarrow
  from pyarrow import parquet

  columns = {}
  for name, value in encoded.items():
    value = np.reshape(value, [len(value), -1]) if value.ndim > 2 else value
    column = pyarrow.array(np.ravel(value))
    columns[name] = (
      pyarrow.FixedSizeListArray.from_arrays(column, value.shape[1]) if value.ndim > 1 else column
    )
  parquet.write_table(pyarrow.table(columns), file)


def _batches(found: Iterable[Row], size: int) -> Iterator[list[Row]]:
  """Rows in batches of one form each."""
  for _, same in itertools.groupby(found, lambda row: row.suffix):
    while batch := list(itertools.islice(same, size)):
      yield batch


def _message(error: tf.errors.OpError) -> str:
  """The text of an assertion in the graph, without where it stands."""
  message = error.message
  found = re.search(r"assertion failed: ((?:\[.*?\] ?)+)", message)
  text = " ".join(re.findall(r"\[(.*?)\]", found[1])) if found else message
  return reason(ValueError(text.splitlines()[0]))
