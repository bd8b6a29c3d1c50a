"""Draws tf_savae/data/text_standin.txt.gz: made-up questions with answers, one document per line.

  python testdata/make_text_standin.py [OUTPUT]

A document has a topic, a manner (plain, polite or careless) and a length. Its question and all sentences of its answer
share them, so that a latent variable has something to encode. Every document is a function of its number. This takes a
few seconds.
"""

from __future__ import annotations

import gzip
import pathlib
import re
import sys

import tensorflow as tf

NUM_DOCUMENTS = 2000
OUTPUT = pathlib.Path(__file__).parents[1] / "tf_savae" / "data" / "text_standin.txt.gz"

_SEED = 41
_MAX_DRAWS = 256  # random numbers available per document

_TOPICS = {
  "food": {
    "thing": "soup|bread|rice|cake|chicken|salad|sauce|pasta|cheese|coffee|pie|fish",
    "part": "salt|butter|sugar|oil|flour|garlic|water|milk|pepper",
    "do": "cook|bake|fry|boil|eat|serve|freeze|taste",
    "quality": "fresh|sweet|spicy|burnt|cold|healthy|greasy",
    "place": "kitchen|oven|restaurant|market|fridge",
    "person": "chef|cook|waiter|grandmother",
  },
  "sport": {
    "thing": "game|team|match|league|ball|season|race|goal|cup",
    "part": "coach|defence|score|referee|penalty|stadium|crowd",
    "do": "win|watch|play|lose|train for|bet on|miss",
    "quality": "fast|strong|unfair|famous|tired|lucky",
    "place": "field|stadium|gym|club|pool",
    "person": "player|coach|fan|goalkeeper|runner",
  },
  "computers": {
    "thing": "computer|program|file|printer|website|virus|password|laptop|disk|email",
    "part": "screen|keyboard|memory|button|menu|folder|cable|driver",
    "do": "install|delete|download|restart|copy|open|update|fix",
    "quality": "slow|broken|free|new|secure|old|locked",
    "place": "desktop|internet|office|server|network",
    "person": "programmer|technician|hacker|user",
  },
  "animals": {
    "thing": "dog|cat|puppy|bird|horse|rabbit|hamster|snake|fish",
    "part": "tail|food|fur|leash|cage|teeth|ear|paw",
    "do": "feed|wash|walk|adopt|train|brush|keep",
    "quality": "friendly|hungry|sick|wild|shy|loud|small",
    "place": "garden|shelter|zoo|yard|farm",
    "person": "vet|owner|breeder|neighbour",
  },
  "travel": {
    "thing": "trip|flight|hotel|beach|passport|train|city|map|bus|island",
    "part": "ticket|suitcase|visa|room|seat|view|price|luggage",
    "do": "book|visit|plan|cancel|take|find|leave",
    "quality": "cheap|crowded|sunny|safe|far|beautiful|late",
    "place": "airport|station|coast|mountains|harbour",
    "person": "guide|pilot|tourist|driver",
  },
  "health": {
    "thing": "headache|cold|diet|pill|fever|back|tooth|allergy|cough",
    "part": "sleep|blood|skin|vitamin|muscle|stomach|medicine",
    "do": "treat|cure|stop|check|avoid|prevent|feel",
    "quality": "painful|normal|serious|weak|dizzy|harmless",
    "place": "hospital|pharmacy|clinic|bed|bathroom",
    "person": "doctor|nurse|dentist|patient",
  },
  "music": {
    "thing": "song|guitar|band|album|piano|concert|drum|radio|violin",
    "part": "string|chord|voice|rhythm|lyric|note|beat|tune",
    "do": "play|sing|hear|record|learn|tune|write",
    "quality": "loud|sad|catchy|classic|quiet|boring",
    "place": "stage|studio|church|bar|school",
    "person": "singer|drummer|composer|teacher",
  },
  "money": {
    "thing": "loan|bank|job|tax|house|card|salary|debt|car|account",
    "part": "interest|rate|fee|rent|bill|cheque|credit|contract",
    "do": "pay|save|borrow|sell|buy|invest in|lose|earn",
    "quality": "expensive|rich|legal|broke|safe|high|fair",
    "place": "bank|office|court|shop|market",
    "person": "lawyer|boss|agent|clerk",
  },
}

_QUESTIONS = (
  "how do i <do> a <thing> ?",
  "what is the best <thing> to <do> ?",
  "why is my <thing> so <quality> ?",
  "where can i <do> a <quality> <thing> ?",
  "should i <do> the <thing> or ask a <person> ?",
  "does anyone know how much <part> a <thing> needs ?",
  "is it <quality> to <do> a <thing> in the <place> ?",
  "who can <do> a <thing> without <part> ?",
)
_ANSWERS = (
  "<do> the <part> first and then the <thing> .",
  "a <quality> <thing> needs more <part> than you think .",
  "ask the <person> at the <place> , they know everything about <part> .",
  "the <person> told me that the <part> was too <quality> .",
  "i <do> my <thing> in the <place> every <day> .",
  "if the <part> is <quality> , do not <do> the <thing> .",
  "you can find a <thing> with <part> at the <place> for <number> dollars .",
  "it took me <number> days to <do> the <thing> , and it was <quality> .",
  "my friend <name> is a <person> and would never <do> a <thing> .",
  "there are <number> kinds of <thing> , and most of them are <quality> .",
)
_COMMON = {
  "day": "day|monday|weekend|morning|summer|night",
  "number": "2|3|5|10|20|50|100|1,000",
  "name": "_UNK|anna|tom|maria|ben|_UNK|lee|sam|nina|_UNK",
}
_OPENINGS = {
  "plain": ("", "", "well , "),
  "polite": ("dear all , ", "excuse me , ", "thank you for your help . "),
  "careless": ("hey ", "ok so ", "omg "),
}
_CLOSINGS = {
  "plain": ("", "", "that is all ."),
  "polite": ("i hope this helps .", "good luck and best wishes .", "thank you for asking ."),
  "careless": ("lol", "good luck ! !", "just google it ..."),
}
_CARELESS = {"you": "u", "the": "da", "to": "2", "are": "r", "and": "n", "for": "4", "my": "ma"}


class _Draws:
  """Uniform numbers in turn from the stateless stream of one document."""

  def __init__(self, document: int):
    self._rest = iter(tf.random.stateless_uniform([_MAX_DRAWS], [_SEED, document]).numpy())

  def uniform(self) -> float:
    return float(next(self._rest))

  def choose(self, options):
    return options[int(self.uniform() * len(options))]


def document(number: int) -> str:
  """Document `number`, tokens separated by spaces."""
  draws = _Draws(number)
  words = {**_TOPICS[draws.choose(sorted(_TOPICS))], **_COMMON}
  manner = draws.choose(sorted(_OPENINGS))
  sentences = 1 + int(6 * draws.uniform() ** 2)

  def filled(template: str) -> str:
    return re.sub("<(.*?)>", lambda hole: draws.choose(words[hole[1]].split("|")), template)

  text = draws.choose(_OPENINGS[manner]) + filled(draws.choose(_QUESTIONS))
  for _ in range(sentences):
    text += " " + filled(draws.choose(_ANSWERS))
  tokens = f"{text} {draws.choose(_CLOSINGS[manner])}".split()
  if manner == "careless":
    tokens = [_CARELESS.get(token, token) for token in tokens]
  return " ".join(tokens)


def main() -> None:
  output = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
  text = "".join(f"{document(number)}\n" for number in range(NUM_DOCUMENTS))
  # Without a name and a time in it the file is the same wherever and whenever it is made.
  output.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
  main()
