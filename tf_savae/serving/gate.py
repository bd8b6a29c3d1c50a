"""The gate that every export must pass: the C++ runtime alone must reproduce the Keras model's numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tensorflow.core.protobuf import saved_model_pb2

from tf_savae.errors import UserError
from tf_savae.serving import c_loader
from tf_savae.serving.signatures import Signature

TOLERANCE = 1e-5  # relative, and absolute for values below 1
ROWS = 4

# Ops that call back into the Python of the process that made them.
_PYTHON_OPS = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc", "NumpyFunction"})


class Interface(NamedTuple):
  """Tensors behind a signature: names of the graph ("operation:0") by the names a client uses."""

  inputs: dict[str, str]
  outputs: dict[str, str]


class Difference(NamedTuple):
  """The largest |served − reference| / max(1, |reference|) of an output, over the rows that count."""

  signature: str
  output: str
  value: float


def check(path: str | os.PathLike, signatures: Mapping[str, Signature], rows: int = ROWS) -> list[Difference]:
  """Runs every signature of an exported version without Python's TensorFlow and compares it with the model.

  Outputs along a greedy path may differ in one row, because rounding can change a choice between two close values.

  Args:
    path: the version directory.
    signatures: what was exported; its functions compute on the model's own variables.
    rows: examples of each signature.

  Returns:
    The largest difference of each output.

  Raises:
    UserError: the export is not what it should be; the text says which signature and what is wrong with it.
  """
  meta_graph = read_meta_graph(path)
  _check_ops(meta_graph)
  found = interfaces(meta_graph)
  if found.keys() != signatures.keys():
    wrong = ", ".join(sorted(found.keys() ^ signatures.keys()))
    raise UserError(f"gate: the signatures exported are not those meant; they differ in: {wrong}")
  differences = []
  try:
    with c_loader.Isolated(path) as session:
      for name, signature in signatures.items():
        differences += _compare(name, signature, found[name], session, rows)
  except c_loader.SessionError as error:
    message = str(error).strip().splitlines()[0]
    raise UserError(f"gate: TensorFlow's C++ loader refuses the export: {message}") from error
  return differences


def read_meta_graph(path: str | os.PathLike):
  """The MetaGraphDef of a version directory. Raises UserError where there is none."""
  try:
    data = (Path(path) / "saved_model.pb").read_bytes()
    [meta_graph] = saved_model_pb2.SavedModel.FromString(data).meta_graphs
  except (OSError, ValueError) as error:
    raise UserError(f"{path} holds no SavedModel: {error}; name a version directory") from error
  return meta_graph


def interfaces(meta_graph) -> dict[str, Interface]:
  """The signatures of a MetaGraphDef that clients call."""
  return {
    name: Interface(
      {key: tensor.name for key, tensor in definition.inputs.items()},
      {key: tensor.name for key, tensor in definition.outputs.items()},
    )
    for name, definition in meta_graph.signature_def.items()
    if not name.startswith("__saved_model_")
  }


def _check_ops(meta_graph) -> None:
  bodies = {function.signature.name: function.node_def for function in meta_graph.graph_def.library.function}
  for where, nodes in {"the graph": meta_graph.graph_def.node, **bodies}.items():
    for node in nodes:
      if node.op in _PYTHON_OPS:
        raise UserError(f"gate: {where} needs Python: {node.op} ({node.name}); a server has none")


def _compare(
  name: str, signature: Signature, interface: Interface, session: c_loader.Isolated, rows: int
) -> list[Difference]:
  examples = signature.feeds(rows)
  expected = {key: value.numpy() for key, value in signature(examples).items()}
  if interface.inputs.keys() != signature.specs.keys() or interface.outputs.keys() != expected.keys():
    raise UserError(f"gate: signature {name} has other inputs or outputs than meant: {interface}")
  feeds = {interface.inputs[key]: value for key, value in examples.items()}
  try:
    served = session.run(feeds, list(interface.outputs.values()))
  except c_loader.SessionError as error:
    raise UserError(f"gate: signature {name} fails: {str(error).strip().splitlines()[0]}") from error
  differences = []
  for key, value in zip(interface.outputs, served, strict=True):
    if len(value) != rows:
      raise UserError(
        f"gate: signature {name}, output {key} is not batched on dimension 0: {list(value.shape)}"
      )
    differences.append(Difference(name, key, _largest(name, key, value, expected[key], signature)))
  return differences


def _largest(name: str, key: str, value: np.ndarray, expected: np.ndarray, signature: Signature) -> float:
  where = f"gate: signature {name}, output {key}"
  if value.shape != expected.shape or value.dtype != expected.dtype:
    received = f"{value.dtype} {list(value.shape)}, the model gives {expected.dtype} {list(expected.shape)}"
    raise UserError(f"{where} is {received}")
  if value.dtype == object:
    by_row = np.reshape(value != expected, [len(value), -1]).any(axis=1).astype(float)
  else:
    if not np.all(np.isfinite(value)):
      raise UserError(f"{where} is not finite; was this model trained to numbers?")
    error = np.abs(value.astype(np.float64) - expected) / np.maximum(1.0, np.abs(expected.astype(np.float64)))
    by_row = error.reshape(len(value), -1).max(axis=1, initial=0.0)
  counting = np.sort(by_row)[: -1 if signature.follows_greedy_path else None]
  largest = float(counting[-1])
  if largest > TOLERANCE:
    raise UserError(
      f"{where} differs from the Keras model's by {largest:.2g} (relative; at most {TOLERANCE:g} may be)"
    )
  return largest
