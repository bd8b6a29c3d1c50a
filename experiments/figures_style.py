"""The style that all figures of an experiment share: one colour per method, and text sizes."""

from __future__ import annotations

from matplotlib.figure import Figure

WIDTH = 9.0  # inches, of 100 pixels: what a README shows without shrinking
TEXT, SMALL = 11, 10  # points

# Colours of Okabe and Ito (2008), which colour-blind readers tell apart. A method has one, however it is tuned.
COLOURS = {
  "vae": "#0072B2",
  "svi": "#009E73",
  "vae-svi": "#CC79A7",
  "savae": "#D55E00",
}
MARKERS = {"vae": "s", "svi": "^", "vae-svi": "D", "savae": "o"}
OPTIMUM = "black"  # the best Gaussian
FAMILY_LIMIT = "0.62"  # grey: what no choice of λ can give


def method_of(key: str) -> str:
  """The method, a key of `COLOURS`, of a row's key or name: "savae-repaired" and "SA-VAE, K = 20" are "savae".

  Raises:
    ValueError: it is none's.
  """
  key = key.lower().replace("sa-vae", "savae").replace("+", "-").replace("_", "-")
  for method in sorted(COLOURS, key=len, reverse=True):
    if key.startswith(method):
      return method
  raise ValueError(f"A key begins with one of {', '.join(COLOURS)}. Received: {key!r}")


def colour_of(key: str) -> str:
  """The colour of the method of a row's key or name."""
  return COLOURS[method_of(key)]


def marker_of(key: str) -> str:
  """The marker of the method: methods differ in shape as well as in colour."""
  return MARKERS[method_of(key)]


def figure(height: float, width: float = WIDTH) -> Figure:
  """An empty figure, in inches, that makes room for its labels."""
  return Figure(figsize=(width, height), dpi=100, layout="constrained")


def label(ax, x: str, y: str, title: str = "") -> None:
  """Axis labels and title in the sizes of all figures."""
  ax.set_xlabel(x, fontsize=TEXT)
  ax.set_ylabel(y, fontsize=TEXT)
  ax.tick_params(labelsize=SMALL)
  if title:
    ax.set_title(title, fontsize=TEXT)
