"""Whatever a user may add comes from one file outside the package, and is used as built-in parts are."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tf_savae import plugins
from tf_savae.commands import train
from tf_savae.data import DATASETS
from tf_savae.errors import UserError
from tf_savae.networks import DECODERS
from tf_savae.runs.presets import make_config

ROOT = Path(__file__).parents[1]

NETWORK = """
import tensorflow as tf
import tensorflow_probability as tfp
from tf_savae import networks

class Dense(networks.Decoder):
  def __init__(self, latent_dim, image_shape, hidden_dim, **kwargs):
    super().__init__(**kwargs)
    self.latent_dim, self.image_shape = latent_dim, tuple(image_shape)
    size = image_shape[0] * image_shape[1]
    self.hidden = self.add_weight(shape=(latent_dim, hidden_dim), name="hidden")
    self.out = self.add_weight(shape=(hidden_dim, size), name="out")
    self.built = True

  def precompute(self, x, training=False, seed=None):
    return ()

  def call(self, z):
    flat = tf.matmul(tf.tanh(tf.matmul(z, self.hidden)), self.out)
    return tf.reshape(flat, [-1, *self.image_shape])

  def log_prob(self, x, z, context):
    return tf.reduce_sum(tfp.distributions.Bernoulli(logits=self.call(z)).log_prob(x), axis=[1, 2, 3])

  def decode(self, z):
    return tf.sigmoid(self.call(z))

  def sample(self, z, seed, num=None, progress=False):
    p = self.decode(z)
    return tf.cast(tf.random.stateless_uniform(tf.shape(p), seed) < p, tf.float32)

def dense(data, latent_dim, *, hidden_dim, seed, dtype):
  return Dense(latent_dim, data.image_shape, hidden_dim, dtype=dtype)

networks.register("dense", decoder=dense, kinds=["image"], settings=["hidden_dim"])
"""

DATA_SET = """
import numpy as np
from tf_savae import data

def load(*, data_dir, seed, download, strict, data_seed):
  grey = np.random.default_rng(data_seed).uniform(size=[60, 16, 8])
  return data.images_from_arrays(grey, grey[:20], grey[:20], source="noise", seed=seed, name="noise")

tiny = {"encoder_channels": (2, 2), "batch_size": 20, "latent_dim": 3}
data.register("noise", load, kind="image", settings=["data_seed"], presets={"tiny": tiny})
"""

KIND = """
import numpy as np
import tensorflow as tf
from tf_savae import GaussianParams, data, networks
from tf_savae.kind import KINDS, Kind

class Vector(Kind):
  examples = "vectors"

  def projector_columns(self, x, data):
    return {"norm": np.linalg.norm(x, axis=1)}

  def payloads(self, trained, seed):
    from tf_savae.serving.payloads import FromLatent, Input, Payloads, drawn_as_it_is
    x = Input(tf.TensorSpec([None, 4], tf.float32, "x"), lambda x: x, lambda n: np.ones([n, 4], "f"), "a vector")
    means = FromLatent("decode", "mean", "mean", trained.model.decode, "mean of p(x | z)")
    return Payloads({"": x}, "", drawn_as_it_is(x), means)

KINDS.register("vector", Vector())

class Vectors(data.DataSet):
  kind = "vector"

  def num_examples(self, split):
    return 60

  def _train_batch(self, rows, step):
    return self._eval_batch("train", rows)

  def _eval_batch(self, split, rows):
    rows = tf.cast(rows, tf.float32)[:, tf.newaxis]
    return tf.sin(rows * tf.range(1.0, 5.0))

def load(*, data_dir, seed, download, strict):
  return Vectors(name="waves", source="sines", is_stand_in=False, seed=seed)

data.register("waves", load, kind="vector")

class Encoder(tf.keras.layers.Layer):
  def __init__(self, latent_dim, **kwargs):
    super().__init__(**kwargs)
    self.heads = tf.keras.layers.Dense(2 * latent_dim)

  def build(self, shape):
    self.heads.build(shape)

  def call(self, x, training=False):
    return GaussianParams(*tf.split(self.heads(x), 2, axis=1))

class Decoder(networks.Decoder):
  def __init__(self, latent_dim, **kwargs):
    super().__init__(**kwargs)
    self.latent_dim = latent_dim
    self.kernel = self.add_weight(shape=(latent_dim, 4), name="kernel")
    self.built = True

  def precompute(self, x, training=False, seed=None):
    return ()

  def log_prob(self, x, z, context):
    return -tf.reduce_sum((x - self.decode(z)) ** 2, axis=1)

  def decode(self, z):
    return tf.matmul(z, self.kernel)

  def sample(self, z, seed, num=None, progress=False):
    return self.decode(z)

networks.register("dense", encoder=lambda data, size, *, seed, dtype: Encoder(size, dtype=dtype), kinds=["vector"])
networks.register("linear", decoder=lambda data, size, *, seed, dtype: Decoder(size, dtype=dtype), kinds=["vector"])
"""

METHOD = """
from tf_savae.methods import METHODS, SemiAmortized

class Doubled(SemiAmortized):
  label = "Doubled K={k}"

  def loss(self, inferred):
    return 2.0 * super().loss(inferred)

METHODS.register("doubled", Doubled())
"""

RULE = """
import dataclasses
import tensorflow as tf
from tf_savae.svi import RULES, Rule

@dataclasses.dataclass(frozen=True)
class Bounded(Rule):
  momentum: float = 0.0

  def update(self, k, params, gradient, state, step_size):
    return params - step_size * tf.tanh(gradient), state

RULES.register("bounded", Bounded)
"""

ADJOINT = """
import dataclasses
from tf_savae.svi import ADJOINTS
from tf_savae.svi.adjoint import UnrolledAdjoint

@dataclasses.dataclass(frozen=True)
class Mine(UnrolledAdjoint):
  steps: int = 0

  def run(self, problem):
    assert self.steps == 7
    return super().run(problem)

ADJOINTS.register("mine", Mine)
"""

# Runs several command lines in one process; the first one that fails ends it. A run whose results are missing was
# killed before it had them.
COMMANDS = """
import json, pathlib, sys
import train
for arguments in json.loads(sys.argv[1]):
  if arguments[0] == "lose":
    pathlib.Path(arguments[1]).unlink()
    continue
  status = train.main(["train.py", *arguments])
  if status:
    sys.exit(status)
"""

EXPORT = """
import json, sys
from pathlib import Path
from tf_savae import startup
startup.import_tensorflow()
from tf_savae.serving.exporter import export
for run_dir in json.loads(sys.argv[1]):
  print("exported", export(run_dir, Path(run_dir) / "models"))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """The plug-ins, each in its own file, by name."""
  directory = tmp_path_factory.mktemp("plugins")
  written = {}
  texts = {
    **{"network": NETWORK, "data_set": DATA_SET, "kind": KIND},
    **{"method": METHOD, "rule": RULE, "adjoint": ADJOINT},
  }
  for name, text in texts.items():
    written[name] = directory / f"my_{name}.py"
    written[name].write_text(text)
  return written


@pytest.fixture
def registered_for_now(monkeypatch):
  """What plug-ins register in this process is forgotten after the test."""
  monkeypatch.setattr(plugins, "_LOADED", {})
  monkeypatch.setattr(DATASETS, "_parts", dict(DATASETS._parts))
  of_kind = {kind: copy.copy(registry) for kind, registry in DECODERS._of_kind.items()}
  for registry in of_kind.values():
    registry._parts = dict(registry._parts)
  monkeypatch.setattr(DECODERS, "_of_kind", of_kind)


def python(code, arguments, cwd=ROOT):
  done = subprocess.run(
    [sys.executable, "-c", code, json.dumps(arguments)],
    cwd=cwd,
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
  return done.stdout


@pytest.mark.slow
def test_parts_from_outside_train_resume_evaluate_and_export(files, tmp_path):
  runs = {
    "image": [
      f"--plugin={files['network']},{files['data_set']},{files['method']}",
      f"--plugin={files['rule']}",
      f"--plugin={files['adjoint']}",
      *("--dataset=noise", "--decoder=dense", "--hidden_dim=5"),
      *("--model=doubled", "--svi_rule=bounded", "--adjoint=mine", "--adjoint_steps=7"),
    ],
    "vector": [f"--plugin={files['kind']}", "--dataset=waves", "--latent_dim=3"],
  }
  commands, again, directories = [], [], []
  for name, arguments in runs.items():
    directory = str(tmp_path / name)
    directories.append(directory)
    begin = [*arguments, f"--run_dir={directory}", "--preset=tiny", "--k=2", "--epochs=2"]
    commands += [
      [*begin, "--max_steps=3"],
      ["lose", f"{directory}/results.json"],
      [*begin, "--max_steps=5"],
    ]
    # A new process, which learns from the run directory what to import.
    again.append(["--eval_only", f"--run_dir={directory}", "--eval_k=1"])
  told = python(COMMANDS, commands)
  assert told.count("resumed at update 3 of 5") == 2
  python(COMMANDS, again)
  for directory in map(Path, directories):
    results = json.loads((directory / "results.json").read_text())
    assert (results["steps"], results["eval_k"]) == (5, 1)
    assert results["test"]["nll_bound"] == pytest.approx(results["test"]["nll_bound"])  # a number
    config = json.loads((directory / "config.json").read_text())
    expected = ["kind"] if directory.name == "vector" else [name for name in files if name != "kind"]
    assert sorted(config["plugin"]) == sorted(str(files[name]) for name in expected)
  assert (tmp_path / "image" / "overview.png").exists()
  assert python(EXPORT, directories).count("exported") == 2


def test_plugins_are_imported_once_before_names_are_checked(files, registered_for_now):
  config = make_config(dataset="noise", preset="tiny", plugin=[str(files["data_set"]), str(files["network"])])
  assert (config.kind, config.encoder_channels, config.latent_dim) == ("image", (2, 2), 3)
  assert config.latent_maps == make_config(preset="tiny").latent_maps  # of its kind
  assert "noise" in DATASETS and "dense" in DECODERS.names("image")
  plugins.load(config.plugin)  # a second time would be refused: the names are taken


@pytest.mark.parametrize(
  ("text", "words"),
  [
    (None, "is no file"),
    ("import nothing_of_that_name", "ModuleNotFoundError"),
    ("1 +", "SyntaxError"),
    ("import sys; sys.exit(3)", "calls sys.exit(3)"),
    ("raise SystemExit", "calls sys.exit()"),
  ],
)
def test_a_plugin_that_cannot_be_imported_is_one_line_with_its_path(tmp_path, text, words):
  path = tmp_path / "broken.py"
  if text is not None:
    path.write_text(text)
  with pytest.raises(UserError) as caught:
    plugins.load([str(path)])
  message = str(caught.value)
  assert "\n" not in message
  assert str(path) in message and words in message


def test_a_plugin_whose_path_is_not_utf8_is_one_line(tmp_path):
  path = os.fsdecode(os.fsencode(tmp_path) + b"/mine\xff.py")
  Path(path).write_text("")
  with pytest.raises(UserError, match=r"^--plugin=.*mine.*\.py is not UTF-8.*; rename it$"):
    plugins.load([path])


def test_ctrl_c_while_a_plugin_is_imported_is_one_line(tmp_path, capsys):
  path = tmp_path / "interrupted.py"
  path.write_text("raise KeyboardInterrupt")
  assert train.COMMAND.main(["train.py", f"--plugin={path}"]) == 130
  assert capsys.readouterr().err == "interrupted\n"
  path.write_text("")
  plugins.load([str(path)])  # nothing of the first attempt is left


def test_a_plugin_that_was_moved_is_given_anew(files, tmp_path, registered_for_now):
  moved = tmp_path / files["data_set"].name
  plugins.load([str(files["data_set"])])
  plugins.load([str(moved)])  # as a run's config.json names it; the file that was given stands for it
