"""The gate lets nothing through that a server would answer differently, or not at all."""

import numpy as np
import pytest
import tensorflow as tf

from tf_savae.errors import UserError
from tf_savae.serving import c_loader, gate
from tf_savae.serving.signatures import Signature


class Toy:
  """One variable, one signature, cheap to save."""

  def __init__(self, function=None):
    self.weight = tf.Variable([2.0, 3.0])
    self.made = {"double": self.signature(function or (lambda x: {"y": x * self.weight}))}

  def signature(self, function):
    spec = tf.TensorSpec([None, 2], tf.float32, "x")
    return Signature(
      function, spec, lambda n: np.ones([n, 2], np.float32), "two numbers", {"y": "two numbers"}
    )

  def save(self, path):
    module = tf.Module()
    module.weight = self.weight
    tf.saved_model.save(module, str(path), signatures={name: s.traced for name, s in self.made.items()})
    return path


def test_an_honest_export_passes(tmp_path):
  toy = Toy()
  [difference] = gate.check(toy.save(tmp_path / "1"), toy.made)
  assert difference.value <= gate.TOLERANCE


def test_an_altered_variable_is_found_and_the_signature_named(tmp_path):
  toy = Toy()
  path = toy.save(tmp_path / "1")
  toy.weight.assign([2.0, 3.001])
  with pytest.raises(
    UserError, match=r"^gate: signature double, output y differs from the Keras model's by 0\.0003"
  ):
    gate.check(path, toy.made)


def test_an_op_that_needs_python_is_found(tmp_path):
  toy = Toy(lambda x: {"y": tf.ensure_shape(tf.numpy_function(np.square, [x], tf.float32), [None, 2])})
  with pytest.raises(UserError, match="needs Python: PyFunc"):
    gate.check(toy.save(tmp_path / "1"), toy.made)


def test_a_missing_signature_is_found(tmp_path):
  toy = Toy()
  path = toy.save(tmp_path / "1")
  with pytest.raises(UserError, match="differ in: half"):
    gate.check(path, {**toy.made, "half": toy.made["double"]})


def test_what_is_not_a_number_is_found(tmp_path):
  toy = Toy()
  toy.weight.assign([np.nan, 1.0])
  with pytest.raises(UserError, match="signature double, output y is not finite"):
    gate.check(toy.save(tmp_path / "1"), toy.made)


def test_an_output_that_is_not_batched_is_found(tmp_path):
  toy = Toy(lambda x: {"y": tf.reduce_sum(x * toy.weight, axis=0)})
  with pytest.raises(UserError, match="not batched on dimension 0"):
    gate.check(toy.save(tmp_path / "1"), toy.made)


def test_only_a_greedy_path_may_differ_and_only_in_one_row():
  expected = np.zeros([4, 2], np.float32)

  def largest(rows, follows_greedy_path):
    value = expected.copy()
    value[:rows] = 1.0
    signature = Signature(None, None, lambda n: np.zeros(n), "", {}, follows_greedy_path)
    return gate._largest("s", "y", value, expected, signature)

  assert largest(1, True) == 0.0
  for rows, greedy in ((1, False), (2, True)):
    with pytest.raises(UserError, match="differs"):
      largest(rows, greedy)


def test_the_c_session_speaks_strings_of_every_length(tmp_path):
  spec = tf.TensorSpec([None], tf.string, "s")
  function = tf.function(lambda s: {"twice": s + s}).get_concrete_function(spec)
  tf.saved_model.save(tf.Module(), str(tmp_path), signatures={"twice": function})
  [interface] = gate.interfaces(gate.read_meta_graph(tmp_path)).values()
  strings = np.array([b"", b"a\0b", b"x" * 11, b"y" * 12, b"z" * 100_000], object)
  with c_loader.Isolated(tmp_path, threads=1) as session:
    [twice] = session.run({interface.inputs["s"]: strings}, [interface.outputs["twice"]])
    with pytest.raises(KeyError):
      session.run({}, ["nothing:0"])
    with pytest.raises(c_loader.SessionError, match="string"):
      session.run({interface.inputs["s"]: np.zeros(1, np.float32)}, [interface.outputs["twice"]])
  assert twice.tolist() == [s + s for s in strings]


def test_a_directory_without_export_is_said_to_be_one(tmp_path):
  with pytest.raises(UserError, match="holds no SavedModel"):
    gate.read_meta_graph(tmp_path)
  with pytest.raises(c_loader.SessionError, match="SavedModel"):
    c_loader.Isolated(tmp_path)
