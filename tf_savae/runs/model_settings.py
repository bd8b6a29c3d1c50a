"""Settings of the model and its training: groups "Refinement", "Training" and "Networks"; see `settings`."""

from __future__ import annotations

import dataclasses

from tf_savae.likelihoods import LIKELIHOODS
from tf_savae.methods import INITIAL_LOSS_TRAINS, OBJECTIVES
from tf_savae.networks.catalogue import DECODERS, ENCODERS
from tf_savae.posteriors import POSTERIORS
from tf_savae.runs.options import (
  OnResume,
  name_in,
  named,
  number,
  one_of,
  option,
  optional,
  whole,
  whole_list,
)
from tf_savae.svi import ADJOINTS, DRAWS, RULES

DILATIONS = ("small", "medium", "large")  # `tf_savae.networks.dilated_conv` says which they are

# Kinds of data that a setting is for; a setting without them is for all.
_IMAGES, _TEXT, _TOKENS, _SEQUENCES = ("image",), ("text",), ("tokens",), ("text", "tokens")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSettings:
  """Refinement, optimisation and networks."""

  # Refinement λ_0 → λ_K.
  k: int = option(20, whole(0), "K, SVI steps that refine a posterior in training", "Refinement")
  k_warmup_epochs: float = option(
    0.0,
    number(0),
    "epochs over which the SVI steps of an update rise linearly from 1 to --k in training; 0: --k from the start",
    "Refinement",
  )
  eval_k: int | None = option(
    None,
    optional(whole(0)),
    "SVI steps at evaluation (default: --k for methods that refine, else 0)",
    "Refinement",
    OnResume.FREE,
  )
  svi_lr: float = option(
    0.02,
    number(above=0),
    "α, step size per example in nats; the paper's 1 on the mean over a batch of 50 is 0.02",
    "Refinement",
    OnResume.EVALUATION,
  )
  svi_lr_log_var: float | None = option(
    None,
    optional(number(above=0)),
    "α of log σ² if it differs from that of μ (default: --svi_lr)",
    "Refinement",
    OnResume.EVALUATION,
  )
  svi_schedule: str = option(
    "constant",
    one_of("constant", "linear", "harmonic"),
    "step sizes over the K steps: constant, falling linearly to α/K, or α/(1 + 0.3 k)",
    "Refinement",
    OnResume.EVALUATION,
  )
  learn_svi_lr: str = option(
    "none",
    one_of("auto", "none", "step", "block", "latent"),
    "train the step sizes: one per step, one per step for μ and one for log σ², or one per step and latent; auto: one"
    " per step if the method can",
    "Refinement",
  )
  svi_rule: str = option(
    "gradient",
    name_in(RULES),
    "what an SVI step does with the gradient; --svi_momentum and --svi_clip_norm apply only to rules that have them",
    "Refinement",
    OnResume.EVALUATION,
  )
  svi_momentum: float = option(
    0.5, number(0, below=1), "γ, momentum of the SVI steps", "Refinement", OnResume.EVALUATION
  )
  svi_clip_norm: float = option(
    35.0,
    number(),
    "largest norm of an example's gradient for μ and for log σ² in nats; the paper's 5 on the mean over a"
    " batch of 50 is about 35; 0 or less: off",
    "Refinement",
    OnResume.EVALUATION,
  )
  svi_samples: int = option(
    1, whole(1), "noise draws averaged in an SVI step", "Refinement", OnResume.EVALUATION
  )
  svi_noise: str = option(
    "independent",
    name_in(DRAWS),
    "draws of an SVI step: independent; in pairs ε, −ε, whose odd gradient noise cancels; such pairs of random signs;"
    " the mean, without noise; or quadrature, without noise and in the training loss, too, for a decoder that"
    " integrates over z itself, as late_pixelcnn does. Pairs need an even --svi_samples",
    "Refinement",
    OnResume.EVALUATION,
  )
  svi_tolerance: float = option(
    0.0,
    number(0),
    "an example stops when a step is expected to gain no more nats than this; 0: all K steps are taken",
    "Refinement",
    OnResume.EVALUATION,
  )
  initial_loss_weight: float = option(
    0.0,
    number(0),
    "savae: weight of L(λ_0) in the loss, for an encoder that is good without refinement",
    "Refinement",
  )
  initial_loss_trains: str = option(
    "encoder",
    one_of(*INITIAL_LOSS_TRAINS),
    "what a weighted L(λ_0) trains: encoder, or both networks, which gives the better encoder",
    "Refinement",
  )
  adjoint: str = option(
    "exact",
    name_in(ADJOINTS, "auto"),
    "how to differentiate through the steps; auto: stored up to 1 GB, else exact",
    "Refinement",
  )
  adjoint_steps: int = option(5, whole(1), "last steps that --adjoint=truncated differentiates", "Refinement")
  fd_radius: float = option(
    1e-2,
    number(above=0),
    "radius r of --adjoint=finite_difference (the paper's 1e-5 is noise in float32)",
    "Refinement",
  )

  # Optimisation of θ and φ.
  epochs: int = option(100, whole(1), "passes over the training data", "Training", OnResume.GROWS)
  max_steps: int = option(
    0, whole(0), "stop after this many updates even within an epoch; 0: no limit", "Training", OnResume.GROWS
  )
  max_minutes: float = option(
    0.0,
    number(0),
    "minutes of training, validations included, after which it stops, even within an epoch, with one more"
    " validation; 0: no limit",
    "Training",
    OnResume.GROWS,
  )
  batch_size: int = option(50, whole(1), "examples per update", "Training")
  optimizer: str = option("adam", one_of("adam", "sgd"), "optimizer", "Training")
  learning_rate: float = option(1e-3, number(above=0), "learning rate", "Training")
  lr_decay: float = option(
    0.5, number(above=0, maximum=1), "factor on the learning rate when patience ends", "Training"
  )
  lr_patience: int = option(
    0,
    whole(0),
    "epochs without a better validation bound before the learning rate decays; 0: never",
    "Training",
  )
  lr_decay_from: int = option(
    1, whole(1), "first epoch, counted from 1, that counts towards --lr_patience", "Training"
  )
  lr_decay_mode: str = option(
    "once",
    one_of("once", "every"),
    "what happens when --lr_patience ends: one decay, and patience begins anew; or a decay after that and"
    " every later epoch",
    "Training",
  )
  min_learning_rate: float = option(
    0.0,
    number(0),
    "training stops when the learning rate decays below this; 0: never",
    "Training",
    OnResume.FREE,
  )
  early_stop_patience: int = option(
    0,
    whole(0),
    "epochs without a better validation bound before training stops; 0: never",
    "Training",
    OnResume.FREE,
  )
  clip_norm: float = option(
    5.0, number(), "largest global norm of a gradient of the mean loss, in nats; 0 or less: off", "Training"
  )
  beta_start: float = option(0.1, number(0, 1), "β, weight of the KL term, at the first update", "Training")
  beta: float = option(
    1.0,
    number(0),
    "β after the warm-up, and the most it is before; validation chooses the best model by nll + this · KL. 0 trains an"
    " autoencoder, whose encoder a run can begin with (--init_networks=encoder)",
    "Training",
  )
  beta_warmup_epochs: float = option(
    10.0,
    number(0),
    "β rises by 1/(this · batches in an epoch) per update, up to --beta; 0: it is --beta from the start",
    "Training",
  )
  beta_cycles: int = option(
    1,
    whole(1),
    "how often β rises; 2 or more is the cyclical schedule (Fu et al. 2019): each cycle lasts twice"
    " --beta_warmup_epochs, and after the last one β stays; their 4 cycles over E epochs take a warm-up of"
    " E / 8",
    "Training",
  )
  free_bits: float = option(
    0.0, number(0), "nats of KL that each latent may have without penalty in training", "Training"
  )
  objective: str = option(
    "elbo",
    one_of(*OBJECTIVES),
    "bound at λ_K that training maximises: elbo; iwae, importance-weighted with --iwae_samples draws (Burda et al."
    " 2016); or buffered, with a draw from each of λ_0 … λ_K (Shu et al. 2019). β weighs log p(z) − log q(z) in the"
    " last two; SVI steps and validation are about the ELBO all the same",
    "Training",
  )
  iwae_samples: int = option(
    5, whole(1), "--objective=iwae: draws per example of the training loss", "Training"
  )
  lagging_updates: int = option(
    0,
    whole(0),
    "lagging inference (He et al. 2019, who take 100): updates of the encoder alone, until its loss stops falling or up"
    " to this many, before each of the decoder; ends after the first validation whose mutual information is less than"
    " the one before; 0: encoder and decoder are always trained together",
    "Training",
  )
  max_nonfinite: int = option(
    20,
    whole(1),
    "training stops after this many updates in a row whose loss or gradient was not finite",
    "Training",
    OnResume.FREE,
  )

  # The posterior.
  posterior: str = option(
    "diagonal",
    name_in(POSTERIORS),
    "what q_λ is: a diagonal Gaussian; full, a Gaussian with all covariances; or iaf, an inverse autoregressive flow on"
    " top of the diagonal Gaussian, which all examples share and which learns with the encoder",
    "Networks",
  )
  iaf_flows: int = option(2, whole(1), "--posterior=iaf: flows behind one another", "Networks")
  iaf_hidden: int = option(64, whole(1), "--posterior=iaf: hidden units of each flow", "Networks")

  # Networks.
  encoder: str = option(
    "auto",
    name_in(ENCODERS, "auto"),
    "encoder; auto: the first for the kind of data: resnet for images, lstm for sequences; text can have bow, a bag of"
    " words",
    "Networks",
  )
  decoder: str = option(
    "auto",
    name_in(DECODERS, "auto"),
    "decoder; auto: pixelcnn for images, lstm for sequences; images can have late_pixelcnn, whose convolutions do not"
    " see z, which makes SVI steps cheap, and conv or mlp, whose pixels are independent given z. All but late_pixelcnn"
    " take any --likelihood, and auto is conv for images in colour; text can have dilated_conv",
    "Networks",
  )
  likelihood: str = option(
    "auto",
    name_in(LIKELIHOODS, "auto"),
    "pixelcnn, conv and mlp: what is said of a pixel; auto: bernoulli for binary images, logistic_mixture for grey"
    " values and colour. Any but bernoulli trains on the grey values of a data set and not on binary draws of them",
    "Networks",
    only=_IMAGES,
  )
  likelihood_scale: float | None = option(
    None,
    optional(number(above=0)),
    "--likelihood=gaussian: σ of a pixel, whose range is 1 (default: learned, for each pixel)",
    "Networks",
    only=_IMAGES,
  )
  mixture_components: int = option(
    10, whole(1), "--likelihood=logistic_mixture: components", "Networks", only=_IMAGES
  )
  mlp_units: tuple[int, ...] = option(
    (512, 512), whole_list(1), "--decoder=mlp: units of each hidden layer", "Networks", only=_IMAGES
  )
  generator: str = option(
    "learned",
    one_of("learned", "oracle"),
    "synthetic data: train the decoder, or use the oracle, whose weights are constants, as the decoder and train"
    " inference alone; with --model=svi nothing is then left to train, and --max_steps=1 is enough",
    "Networks",
    only=_TOKENS,
  )
  latent_dim: int = option(32, whole(1), "size of z", "Networks")
  bn_gamma: float = option(
    0.0,
    number(0),
    "γ of BN-VAE (Zhu et al. 2020), whose authors take about 0.5: the encoder's means are normalised over the batch and"
    " scaled by this constant, which keeps their KL above latent · γ²/2 nats in training; 0: they are not",
    "Networks",
  )
  encoder_channels: tuple[int, ...] = option(
    (64, 64, 64), whole_list(1), "image encoder: channels of each residual stage", "Networks", only=_IMAGES
  )
  decoder_channels: int = option(
    32, whole(1), "image decoder: channels of the gated convolutions", "Networks", only=_IMAGES
  )
  decoder_kernels: tuple[int, ...] = option(
    (9, 9, 9, 7, 7, 7, 5, 5, 5, 3, 3, 3),
    whole_list(3, odd=True),
    "image decoder: kernel of each layer, in pixels",
    "Networks",
    only=_IMAGES,
  )
  latent_maps: int = option(
    4, whole(1), "image decoder: number of maps made from z", "Networks", only=_IMAGES
  )
  position_maps: int = option(
    0,
    whole(0),
    "image decoder: learned maps beside the image that tell a pixel where it is; the paper's model without z has none,"
    " and is then not comparable with models whose maps of z have a bias",
    "Networks",
    only=_IMAGES,
  )
  quadrature_nodes: int = option(
    5, whole(2), "late_pixelcnn: nodes per pixel of --svi_noise=quadrature", "Networks", only=_IMAGES
  )
  hidden_dim: int = option(
    100, whole(1), "sequence models: size of the LSTM state", "Networks", only=_SEQUENCES
  )
  embedding_dim: int = option(
    100, whole(1), "sequence models: size of a token's embedding", "Networks", only=_SEQUENCES
  )
  dilations: str | tuple[int, ...] = option(
    "small",
    named(DILATIONS, whole_list(1)),
    "dilated_conv: dilation of each block, in words",
    "Networks",
    only=_TEXT,
  )
  conv_channels: int = option(
    512,
    whole(1),
    "dilated_conv: channels within a block; between them there are twice as many",
    "Networks",
    only=_TEXT,
  )
  init_scale: float = option(
    0.1,
    number(above=0),
    "sequence models: weights are initially uniform within ± this",
    "Networks",
    only=_SEQUENCES,
  )
  dropout: float = option(0.0, number(0, below=1), "share of decoder units dropped in training", "Networks")
  word_dropout: float = option(
    0.0,
    number(0, below=1),
    "share of the decoder's input words that training replaces by the unknown word",
    "Networks",
    only=_TEXT,
  )
  # Runs from before this setting have z in the state, and no value of it.
  latent_to: str = option(
    "state",
    one_of("state", "softmax"),
    "text decoders: where z enters: the network over the words, as in the paper; or the softmax alone, which makes SVI"
    " steps cheap",
    "Networks",
    only=_TEXT,
  )
  latent_l2: float = option(
    0.0,
    number(0),
    "--latent_to=softmax: weight of the sum of squares of z's weights in the training loss, nats per example",
    "Networks",
    only=_TEXT,
  )
