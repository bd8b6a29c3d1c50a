"""Serves the posterior of a trained model, and queries it: `python -m examples.serve [URL]`.

Without a URL, a small model is trained and exported for TensorFlow Serving to the folder models. The SavedModel answers
a query, and the command that starts a server is printed. With the server's URL, such as http://localhost:8501, that
server answers the same query.
"""

from __future__ import annotations

import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

from tf_savae import SAVAE, SVISettings
from tf_savae.networks import MLPDecoder
from tf_savae.serving import transport

SIZE = 16


def bits(n: int) -> np.ndarray:
  """Examples `[n, 16]` of bits that agree in halves."""
  halves = np.random.default_rng(0).integers(0, 2, [n, 2]).astype("float32")
  return np.repeat(halves, SIZE // 2, axis=1)


def export(models: str) -> None:
  """Trains, and writes version 1 of a model `bits` below a folder."""
  inputs = keras.Input([SIZE])
  hidden = keras.layers.Dense(32, "tanh")(inputs)
  encoder = keras.Model(inputs, [keras.layers.Dense(2)(hidden), keras.layers.Dense(2)(hidden)])
  model = SAVAE(encoder, MLPDecoder(2, (SIZE,), units=(32,)), svi=SVISettings(num_steps=5, step_size=0.05))
  model.compile(keras.optimizers.Adam(1e-2))
  model.fit(bits(200), batch_size=20, epochs=3, verbose=0)
  model.export(f"{models}/bits/1", k=(5, 0), inputs=bits(4))  # encode_refined takes the first


def ask_server(url: str, x: np.ndarray) -> dict[str, np.ndarray]:
  """λ_K of rows x, and the ELBO at λ_0 and λ_K in nats, from a server over REST or gRPC."""
  with transport.connect(url, "bits") as server:
    return server.predict("encode_refined", x)


def ask_file(models: str, x: np.ndarray) -> dict[str, np.ndarray]:
  """The same from the SavedModel, without a server and without the package's Python."""
  answer = tf.saved_model.load(f"{models}/bits/1").signatures["encode_refined"](tf.constant(x))
  return {name: value.numpy() for name, value in answer.items()}


def main(url: str | None = None, models: str = "models") -> dict[str, np.ndarray]:
  """Asks about three examples, and prints the answer."""
  if url is None:
    export(models)
    answer = ask_file(models, bits(3))
    volume = f"{pathlib.Path(models).resolve()}/bits:/models/bits:ro"
    print(f"docker run --rm -p 8501:8501 -v {volume} -e MODEL_NAME=bits tensorflow/serving:2.21.0")
  else:
    answer = ask_server(url, bits(3))
  for name, value in sorted(answer.items()):
    print(name, np.round(np.float64(value), 3).tolist())
  return answer


if __name__ == "__main__":
  main(*sys.argv[1:])
