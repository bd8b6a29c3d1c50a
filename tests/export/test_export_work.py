"""A refinement step costs two passes of the decoder, one forward and one back: counted in the graph that is served."""

import pytest
import tensorflow as tf

from tf_savae.serving import gate

PRODUCTS = ("MatMul", "BatchMatMulV2", "Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter")
WHILE = ("While", "StatelessWhile")
LENGTH = 13  # turns of a loop over time


class Counted:
  """Products of a graph's functions: what reaches their results, equal nodes once, as TensorFlow runs them."""

  def __init__(self, graph_def):
    self._functions = {function.signature.name: function for function in graph_def.library.function}
    self._nodes = list(graph_def.node)

  def function_of(self, node_name):
    """The function that a node of the graph calls."""
    [node] = [node for node in self._nodes if node.name == node_name]
    return node.attr["f"].func.name

  def products(self, name, turns=LENGTH):
    """In the function `name`, in functions that it calls, and `turns` times in the loops in it."""
    total = 0
    for node in self._distinct(name):
      if node.op in PRODUCTS:
        total += 1
      elif node.op in WHILE:
        total += turns * self.products(node.attr["body"].func.name, turns)
      elif "f" in node.attr:
        total += self.products(node.attr["f"].func.name, turns)
    return total

  def loops(self, name):
    """The bodies of the loops in it."""
    found = []
    for node in self._distinct(name):
      if node.op in WHILE:
        found.append(node.attr["body"].func.name)
      elif "f" in node.attr:
        found += self.loops(node.attr["f"].func.name)
    return found

  def _distinct(self, name):
    function = self._functions[name]
    nodes = {node.name: node for node in function.node_def}
    known, distinct = {}, []

    def visit(reference):
      node_name, _, output = reference.partition(":")
      if node_name not in nodes:
        return reference
      if node_name not in known:
        node = nodes[node_name]
        inputs = tuple(visit(i) for i in node.input if not i.startswith("^"))
        attributes = tuple(sorted((k, v.SerializeToString()) for k, v in node.attr.items() if k[0] != "_"))
        # Reads of variables and of arrays written meanwhile are as good as equal here: no step writes a variable.
        key = (node.op, inputs, attributes)
        if key not in known:
          known[key] = node_name
          distinct.append(node)
        known[node_name] = known[key]
      return f"{known[node_name]}:{output}"

    for result in function.ret.values():
      visit(result)
    return distinct


def of_forward(trained, x):
  """Products of log p(x | z) once all that needs no z is done."""
  decoder = trained.model.decoder
  context = decoder.precompute(x)
  z = tf.zeros([len(x), trained.model.latent_dim])
  log_prob = tf.function(lambda z, context: decoder.log_prob(x, z, context), autograph=False)
  inner = log_prob.get_concrete_function(z, context)
  outer = tf.function(lambda z, context: inner(z, *context), autograph=False).get_concrete_function(
    z, context
  )
  counted = Counted(outer.graph.as_graph_def())
  [call] = [node for node in outer.graph.as_graph_def().node if "f" in node.attr]
  return counted.products(call.attr["f"].func.name)


@pytest.mark.parametrize("kind", ["image", "text"])
def test_a_step_of_refinement_is_two_passes_of_the_decoder(kind, request):
  exported = request.getfixturevalue("exported" if kind == "image" else "exported_text")
  counted = Counted(gate.read_meta_graph(exported.path).graph_def)
  interface = exported.interfaces["encode_refined" if kind == "image" else "encode_refined_ids"]
  function = counted.function_of(interface.outputs["mean"].partition(":")[0])
  step = max(map(counted.products, counted.loops(function)))
  x = tf.zeros([1, 28, 28, 1]) if kind == "image" else tf.constant([[4, 5, 2]])
  forward = of_forward(exported.trained, x)
  assert 1.5 * forward < step <= 2.2 * forward
