"""The LSTM models in PyTorch: documents with padding (text) and short sequences of one length (synthetic).

How the LSTM itself runs is a choice, since none is the best everywhere (`LSTMS`). Measured on CPU with PyTorch 2.13:
double backward works and is right for all three; forward-mode derivatives are not there for the fused one.

fused      nn.LSTM, which runs as one oneDNN kernel in float32. Its first backward is a kernel, too, unless a graph of
           it is kept: then PyTorch replays it as a graph of small operations, once a time step.
composite  nn.LSTM with oneDNN off (and always in float64): a graph of small operations, made in C++.
loop       a loop in Python over cells; the product of embeddings and input weights is computed once for all
           refinement steps, which nn.LSTM cannot.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers import layout

LSTMS = ("fused", "composite", "loop")
PAD, START = 0, 1


class Encoder(nn.Module):
  """Tokens `[batch, length]` to λ_0: two linear heads on the state after the last token that is no padding."""

  def __init__(self, vocab_size: int, latent_dim: int, embedding_dim: int, hidden_dim: int, *, padded: bool):
    super().__init__()
    self.padded = padded
    self.embedding = nn.Embedding(vocab_size, embedding_dim)
    self.lstm = nn.LSTM(embedding_dim, hidden_dim)
    self.mean = nn.Linear(hidden_dim, latent_dim)
    self.log_var = nn.Linear(hidden_dim, latent_dim)

  def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
    states, (last, _) = self.lstm(self.embedding(x.T))
    h = last[0]
    if self.padded:
      index = (x != PAD).sum(1) - 1
      h = states[index.clamp(min=0), torch.arange(x.shape[0])]
    return self.mean(h), self.log_var(h)

  def layout(self) -> Iterator[layout.Entry]:
    yield layout.same("embedding", self.embedding.weight)
    yield from layout.lstm(self.lstm, self.embedding.embedding_dim)
    for name, head in {"mean": self.mean, "log_var": self.log_var}.items():
      yield layout.linear(f"{name}_kernel", head.weight)
      yield layout.same(f"{name}_bias", head.bias)


class Decoder(nn.Module):
  """−log p(x | z) under an LSTM that sees z at every step.

  Args:
    vocab_size, latent_dim, embedding_dim, hidden_dim: sizes.
    padded: text: PAD does not count, inputs begin with START and h_0 is a linear function of z. Otherwise every id
      counts, inputs begin with an embedding of their own and h_0 = 0.
    dropout: rate of the dropouts of embeddings and states.
    lstm: how it runs, one of `LSTMS`.
  """

  def __init__(
    self,
    vocab_size: int,
    latent_dim: int,
    embedding_dim: int,
    hidden_dim: int,
    *,
    padded: bool,
    dropout: float = 0.0,
    lstm: str = "fused",
  ):
    super().__init__()
    self.padded, self.dropout, self.how = padded, dropout, lstm
    self.start = START if padded else vocab_size
    self.embedding = nn.Embedding(vocab_size + (not padded), embedding_dim)
    self.lstm = nn.LSTM(embedding_dim + latent_dim, hidden_dim)
    self.state = nn.Linear(latent_dim, hidden_dim) if padded else None
    self.logits = nn.Linear(hidden_dim, vocab_size)

  def layout(self) -> Iterator[layout.Entry]:
    embedding = self.embedding.embedding_dim
    yield layout.same("embedding", self.embedding.weight)
    yield from layout.lstm(self.lstm, embedding, self.lstm.input_size - embedding)
    yield layout.linear("logit_kernel", self.logits.weight)
    yield layout.same("logit_bias", self.logits.bias)
    if self.state is not None:
      yield layout.linear("state_kernel", self.state.weight)
      yield layout.same("state_bias", self.state.bias)

  def precompute(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """What z is not needed for: differentiable tensors, and constants (the dropout mask of the states)."""
    by_time = x.T
    tokens = F.pad(by_time[:-1], (0, 0, 1, 0), value=self.start)
    embedded = self.embedding(tokens)
    masks = []
    if self.dropout:
      embedded = F.dropout(embedded, self.dropout)
      masks = [F.dropout(embedded.new_ones(*tokens.shape, self.lstm.hidden_size), self.dropout)]
    if self.how != "loop":
      return [embedded], masks
    weight = self.lstm.weight_ih_l0[:, : self.embedding.embedding_dim]
    return [F.linear(embedded, weight, self.lstm.bias_ih_l0 + self.lstm.bias_hh_l0)], masks

  def forward(self, x: Tensor, z: Tensor, context: Sequence[Tensor]) -> Tensor:
    """−log p(x | z) summed over the batch, nats."""
    inputs, *mask = context
    h = self.state(z) if self.state is not None else z.new_zeros(z.shape[0], self.lstm.hidden_size)
    states = self._loop(inputs, z, h) if self.how == "loop" else self._lstm(inputs, z, h)
    if mask:
      states = states * mask[0]
    # One product and one cross entropy for all tokens.
    logits = self.logits(states).flatten(0, 1)
    ignored = PAD if self.padded else -100
    return F.cross_entropy(logits, x.T.flatten(), ignore_index=ignored, reduction="sum")

  def _lstm(self, embedded, z, h):
    rows = torch.cat([embedded, z.expand(embedded.shape[0], *z.shape)], dim=2)
    onednn = contextlib.nullcontext()
    if self.how == "composite":
      onednn = torch.backends.mkldnn.flags(enabled=False, allow_tf32=None)
    with onednn:
      return self.lstm(rows, (h[None], torch.zeros_like(h)[None]))[0]

  def _loop(self, inputs, z, h):
    constant = F.linear(z, self.lstm.weight_ih_l0[:, self.embedding.embedding_dim :])
    recurrent = self.lstm.weight_hh_l0.T
    c = torch.zeros_like(h)
    states = []
    for x_t in inputs + constant:
      i, f, g, o = torch.addmm(x_t, h, recurrent).chunk(4, dim=1)
      c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
      h = torch.sigmoid(o) * torch.tanh(c)
      states.append(h)
    return torch.stack(states)
