"""Queries a served model: `python -m tf_savae client --url=http://localhost:8501 --signature=encode_refined FILES`."""

from __future__ import annotations

import sys

from tf_savae import startup
from tf_savae.commands.flags import Command, Flag, Given
from tf_savae.errors import UserError
from tf_savae.runs.options import number, one_of, optional, path, switch, text, whole


def _flags() -> list[Flag]:
  return [
    Flag(
      "url",
      "http://localhost:8501",
      text(),
      "http://host:port or https://… for REST, grpc://host:port for gRPC",
    ),
    Flag("model", "savae", text(), "name of the model"),
    Flag("version", None, optional(text()), "its version, a number or a label", shown_default="the newest"),
    Flag("signature", "serving_default", text(), "what to ask"),
    Flag("by_row", False, switch(), "REST: JSON's row format instead of its column format"),
    Flag("format", "json", one_of("json", "csv", "npz"), "of the answer"),
    Flag(
      "output",
      None,
      optional(path()),
      "file of the answer; npz needs one",
      shown_default="standard output",
    ),
    Flag("timeout", 30.0, number(1e-3), "seconds for each attempt"),
    Flag("retries", 3, whole(0), "attempts after the first"),
  ]


def _prepare(given: Given) -> Given:
  if given.format == "npz" and not given.output:
    raise UserError("--format=npz needs an --output file")
  return given


def _work(given: Given) -> None:
  if given.url.startswith("grpc"):
    startup.import_tensorflow()
  from tf_savae.serving import client, transport

  with transport.connect(
    given.url,
    given.model,
    version=given.version,
    timeout=given.timeout,
    retries=given.retries,
    by_row=given.by_row,
  ) as server:
    signature, batch = client.inputs(server, given.signature, given.arguments)
    answer = server.predict(signature, batch)
  if given.output:
    client.write(answer, given.format, given.output)
  else:
    print(client.as_text(answer, given.format), end="")


COMMAND = Command(
  "client",
  """Asks a served model. Sends it the arguments, PNG or .npy files or sentences, and writes its answer.

  Files are PNG drawings, or .npy arrays of one row or of a batch. PNG files that are given to a signature of arrays go
  to its `_png` twin, which makes of them what training would. For a signature of sentences the arguments are the
  sentences, after `--` if one begins with a dash; without any, the lines of standard input.""",
  _flags,
  _work,
  prepare=_prepare,
  usage="--url=http://localhost:8501 --signature=NAME [--name=value ...] ARGUMENTS",
  takes_arguments=True,
)
main = COMMAND.main

if __name__ == "__main__":
  sys.exit(main())
