"""Queries a served model: `python -m tf_savae client --url=http://localhost:8501 --signature=encode_refined FILES`."""

from __future__ import annotations

import re
import sys

from tf_savae import startup
from tf_savae.commands.flags import Command, Flag, Given
from tf_savae.errors import UserError
from tf_savae.runs.options import Rule, number, one_of, optional, path, switch, text, whole

# What both HTTP and gRPC take; in gRPC, names that end in -bin have values in bytes.
_HEADER = re.compile(r"([0-9A-Za-z_.-]+(?<!-bin)): *([\x20-\x7e]*)")


def _headers() -> Rule:
  def parse(text: str) -> tuple[tuple[str, str], ...]:
    match = _HEADER.fullmatch(text)
    if match is None:
      raise ValueError(text)
    return ((match[1], match[2].rstrip()),)

  return Rule("Name: value, in ASCII", parse, lambda value: isinstance(value, tuple))


def _flags() -> list[Flag]:
  return [
    Flag(
      "url",
      "http://localhost:8501",
      text(),
      "http://host:port or https://… for REST, grpc://host:port or, encrypted, grpcs://… for gRPC",
    ),
    Flag("model", "savae", text(), "name of the model"),
    Flag("version", None, optional(text()), "its version, a number or a label", shown_default="the newest"),
    Flag("signature", "serving_default", text(), "what to ask"),
    Flag("by_row", False, switch(), "REST: JSON's row format instead of its column format"),
    Flag("batch_size", 64, whole(1), "rows of a request; more rows are sent one request after another"),
    Flag("tls", False, switch(), "gRPC: encrypt the connection, as grpcs:// does"),
    Flag(
      "ca_file",
      None,
      optional(path()),
      "certificates of the authorities to trust, PEM",
      shown_default="the system's",
    ),
    Flag(
      "header",
      (),
      _headers(),
      "a header for every request, such as an authorization; may be repeated. --flagfile keeps secrets off the"
      " command line",
      is_repeated=True,
    ),
    Flag(
      "base64",
      "standard",
      one_of("standard", "urlsafe"),
      "REST: alphabet of PNG files in requests; TensorFlow Serving reads the standard one",
    ),
    Flag(
      "format",
      "json",
      one_of("json", "jsonl", "csv", "npz"),
      "of the answer; jsonl and csv are written as answers arrive",
    ),
    Flag(
      "output",
      None,
      optional(path()),
      "file of the answer; npz needs one",
      shown_default="standard output",
    ),
    Flag(
      "label", None, optional(whole(0)), "conditional models: the label of all rows", shown_default="none"
    ),
    Flag(
      "mask",
      None,
      optional(text()),
      "signatures that take a mask: what was seen of each image: upper, lower, left, right, or an .npy file of 1 and 0",
      shown_default="none",
    ),
    Flag(
      "seed",
      None,
      optional(whole(0)),
      "signatures that take a seed beside x: that of the first row; the next row has the next",
      shown_default="none",
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
    tls=given.tls,
    ca_file=given.ca_file,
    headers=dict(given.header),
    url_safe=given.base64 == "urlsafe",
  ) as server:
    beside = {name: getattr(given, name) for name in client.BESIDE}
    signature, batches = client.batches(server, given.signature, given.arguments, given.batch_size, beside)
    answers = server.stream(signature, batches)
    if given.output:
      client.write(answers, given.format, given.output)
    else:
      for text in client.texts(answers, given.format):
        print(text, end="", flush=True)


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
