"""`GenerateSettings`: what to generate from which run. Its fields define the command line. No TensorFlow."""

from __future__ import annotations

import dataclasses
from typing import Any

from tf_savae.errors import UserError
from tf_savae.masks import HALVES
from tf_savae.runs.config import show
from tf_savae.runs.options import Rule, number, one_of, optional, path, switch, whole


def _setting(default: Any, rule: Rule, help_text: str, **more: Any) -> Any:
  return dataclasses.field(default=default, metadata={"rule": rule, "help": help_text, **more})


def _sentences() -> Rule:
  return Rule(
    wording="words separated by spaces",
    parse=lambda text: (text,),
    accepts=lambda v: isinstance(v, tuple) and all(isinstance(s, str) for s in v),
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerateSettings:
  """What to generate from which run. Constructing one validates it: UserError, one line."""

  run_dir: str | None = _setting(None, path(), "the directory of a trained run", is_needed=True)
  sentence: tuple[str, ...] = _setting(
    (), _sentences(), "a sentence to encode and reconstruct; may be given several times", is_repeated=True
  )
  file: str | None = _setting(None, optional(path()), "a text file with one such sentence per line")
  split: str | None = _setting(
    None,
    optional(one_of("train", "valid", "test")),
    "take the first documents of this split of the run's data",
  )
  data_dir: str | None = _setting(
    None, optional(path()), "where the data of --split are", shown_default="where they were in training"
  )
  num: int = _setting(
    5,
    whole(1, 1000),
    "samples from the prior, and the largest number of sentences from --file or --split",
  )
  temperature: float = _setting(
    1.0, number(above=0), "temperature of sampling; below 1, probable words become more probable"
  )
  top_p: float = _setting(
    1.0,
    number(above=0, maximum=1),
    "words are sampled from the most probable ones that together have this probability",
  )
  num_beams: int = _setting(5, whole(1, 100), "number of documents that beam search keeps; 1 is greedy")
  length_penalty: float = _setting(
    0.0, number(0), "beam search ranks by log p / ((5 + length) / 6)^this; larger for longer documents"
  )
  allow_unknown: bool = _setting(True, switch(), "whether the unknown word _UNK may be written")
  interpolate: bool = _setting(
    False, switch(), "decode points on the line from the first sentence's posterior mean to the second's"
  )
  interpolate_by: str = _setting("greedy", one_of("greedy", "beam"), "how a point on that line is decoded")
  points: int = _setting(5, whole(2, 100), "number of points on that line, including both ends")
  plus: tuple[str, ...] = _setting(
    (),
    _sentences(),
    "a sentence with an attribute, or @FILE with one per line; may be given several times. --sentence is moved along"
    " the difference of the means of --plus and of --minus",
    is_repeated=True,
  )
  minus: tuple[str, ...] = _setting(
    (),
    _sentences(),
    "a sentence without that attribute, or @FILE; may be given several times",
    is_repeated=True,
  )
  complete: str | None = _setting(
    None,
    optional(one_of(*HALVES)),
    "images: draw this half of the first images of --split, given the other half, which alone refines z",
  )
  traverse: bool = _setting(
    False, switch(), "images: walk along each of the most active latents from the first image of --split"
  )
  eval_k: int | None = _setting(
    None, optional(whole(0)), "SVI steps that refine a posterior", shown_default="the run's"
  )
  seed: int = _setting(0, whole(0, 2**31 - 1), "seed of all that is drawn")

  def __post_init__(self):
    if self.run_dir is None:
      raise UserError("--run_dir is needed: the directory of a trained run; received none")
    for field in dataclasses.fields(self):
      value, rule = getattr(self, field.name), field.metadata["rule"]
      if not rule.accepts(value):
        raise UserError(f"--{field.name} must be {rule.expected}; received {show(value)}")
    sources = [name for name in ("sentence", "file", "split") if getattr(self, name)]
    if len(sources) > 1:
      raise UserError(
        f"sentences come from one of --sentence, --file and --split; received --{' and --'.join(sources)}"
      )
    if self.interpolate and not sources:
      raise UserError("--interpolate needs two sentences; received none: give --sentence twice, or --split")
    if bool(self.plus) != bool(self.minus):
      one, other = ("plus", "minus") if self.plus else ("minus", "plus")
      raise UserError(f"--{one} needs --{other}, from which it differs; received none")
    if self.plus and not sources:
      raise UserError("--plus and --minus move a sentence; received none: give --sentence, --file or --split")
    for name in ("complete", "traverse"):
      if getattr(self, name) and not self.split:
        raise UserError(f"--{name} needs images; received none: give --split=test")

  @property
  def has_sentences(self) -> bool:
    """Whether sentences are given, in any of the three ways."""
    return bool(self.sentence or self.file or self.split)

  @property
  def of_images(self) -> tuple[str, ...]:
    """Names of the settings that are given and that only images have."""
    return tuple(name for name in ("complete", "traverse") if getattr(self, name))
