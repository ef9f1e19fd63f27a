"""Train a sparse dictionary on a stream of activations with sae-lens' SAETrainer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from concept_forget.sites import Site
from saes.dictionary import SaeDictionary, fold
from saes.store import ActivationStore, Cancelled, Progress

Architecture = Literal["batchtopk", "matryoshka", "relu"]


@dataclass(frozen=True)
class TrainSettings:
    """How to train a dictionary. The defaults suit the models of the zoo: under a minute on two cores."""

    architecture: Architecture = "batchtopk"
    """`batchtopk` (Bussmann et al. 2024), `matryoshka` (2025, with batch-top-k inside) or `relu` with an L1 penalty."""
    expansion: int = 8
    """Features per input dimension."""
    k: int = 16
    """Mean number of features that fire per token (not for relu)."""
    l1: float = 8e-5
    """Weight of the L1 penalty (relu only) in the units of SAUCE's reproduction, see `l1_coefficient`."""
    steps: int = 1000
    batch: int = 512
    lr: float | None = None
    """None: 4e-4 for relu; else 2e-3 at 1,024 features, falling with the root of the width (Gao et al. 2024)."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.architecture not in ("batchtopk", "matryoshka", "relu"):
            raise ValueError(f"Unknown architecture {self.architecture!r}; choose batchtopk, matryoshka or relu.")
        for name in ("expansion", "k", "steps", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: give a whole number of at least 1.")

    @classmethod
    def sauce(cls, **changes: Any) -> TrainSettings:
        """The dictionary of SAUCE (Geng & Li, ICCV 2025): ReLU, 64-fold, L1 8e-5, lr 4e-4, batch 1024."""
        return cls(**{"architecture": "relu", "expansion": 64, "l1": 8e-5, "lr": 4e-4, "batch": 1024} | changes)


def train(
    store: ActivationStore,
    settings: TrainSettings = TrainSettings(),  # noqa: B008 (frozen)
    *,
    device: str | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> SaeDictionary:
    """The dictionary trained on a store; the same store, settings and machine give the same dictionary.

    Raises ValueError when the store has fewer rows than one batch, Cancelled on request.
    """
    if len(store) < settings.batch:
        raise ValueError(
            f"{len(store)} activations are less than one batch of {settings.batch}; harvest more or lower it."
        )
    name = f"{settings.architecture} x{settings.expansion}"
    return train_stream(
        store.batches(settings.batch, settings.seed),
        store.site,
        settings,
        sample=store.sample(8192, settings.seed),
        device=device,
        progress=progress,
        cancelled=cancelled,
        name=name,
    )


def train_stream(
    stream: Iterator[Float[Tensor, "n d"]],
    site: Site,
    settings: TrainSettings,
    *,
    sample: Float[Tensor, "m d"],
    device: str | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    name: str = "",
) -> SaeDictionary:
    """Train on any endless stream of batches. `sample` sets the scale and the start of b_dec (its geometric median)."""
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    lr = settings.lr or learning_rate(settings.architecture, settings.expansion * sample.shape[1])
    center = geometric_median(sample)
    # Centred activations get mean norm sqrt(d), so that lr, l1 and thresholds mean the same at every site.
    scale = float(sample.shape[1] ** 0.5 / (sample - center).norm(dim=1).mean().clamp_min(1e-8))
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        sae = build(settings, sample.shape[1], device)
        sae.b_dec.data.copy_(center * scale)
        trainer = SAETrainer(
            SAETrainerConfig(
                total_training_samples=settings.steps * settings.batch,
                train_batch_size_samples=settings.batch,
                lr=lr,
                lr_end=lr / 10,
                lr_warm_up_steps=min(500, settings.steps // 20),
                lr_decay_steps=settings.steps // 5,
                dead_feature_window=max(50, settings.steps // 10),
                # Longer than the run: reaching the end of a window builds a wandb histogram.
                feature_sampling_window=settings.steps + 1,
                device=device,
                logger=LoggingConfig(log_to_wandb=False),
            ),
            sae,
            stream,
        )
        trainer.activation_scaler.scaling_factor = scale
        # SAETrainer.fit() without its progress bar, through the seams it documents for outside coordinators.
        for step in range(settings.steps):
            if cancelled and cancelled():
                raise Cancelled(f"Training was stopped after {step} of {settings.steps} steps.")
            trainer.step(next(stream))
            trainer.n_training_steps += 1
            if progress:
                progress(step + 1, settings.steps)
        sae.fold_activation_norm_scaling_factor(scale)
    return SaeDictionary.from_rows(*_inference(sae), site, name).to("cpu")


def build(settings: TrainSettings, d: int, device: str) -> Any:
    """The untrained sae-lens training SAE of these settings."""
    from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
    from sae_lens.saes.matryoshka_batchtopk_sae import (
        MatryoshkaBatchTopKTrainingSAE,
        MatryoshkaBatchTopKTrainingSAEConfig,
    )
    from sae_lens.saes.standard_sae import StandardTrainingSAE, StandardTrainingSAEConfig

    width = settings.expansion * d
    common = {"d_in": d, "d_sae": width, "device": device, "normalize_activations": "expected_average_only_in"}
    if settings.architecture == "relu":
        warm_up = settings.steps // 20
        penalty = l1_coefficient(settings.l1, d)
        return StandardTrainingSAE(
            StandardTrainingSAEConfig(**common, l1_coefficient=penalty, l1_warm_up_steps=warm_up)
        )
    if settings.k > width:
        raise ValueError(f"k={settings.k} features of {width}: k may be at most expansion x {d}.")
    # The threshold starts at 0 and follows the batches' smallest kept activation: 0.01 is too slow for a short run.
    common |= {"k": float(settings.k), "topk_threshold_lr": max(0.01, min(0.5, 20 / settings.steps))}
    if settings.architecture == "batchtopk":
        return BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**common))
    levels = sorted({max(1, width // 2**power) for power in range(5)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a dictionary of one feature has one level, and may
        return MatryoshkaBatchTopKTrainingSAE(MatryoshkaBatchTopKTrainingSAEConfig(**common, matryoshka_widths=levels))


def learning_rate(architecture: Architecture, width: int) -> float:
    """The default learning rate of an architecture at a number of features."""
    return 4e-4 if architecture == "relu" else 2e-3 * (1024 / width) ** 0.5


def l1_coefficient(l1: float, d: int) -> float:
    """sae-lens' coefficient for an L1 weight in the units of SAUCE's reproduction.

    That trainer minimises `mean_d (x - x_hat)^2 / ||x|| + l1 ||z||_1`, sae-lens `sum_d (x - x_hat)^2 + c ||z||_1`: the
    same up to a factor when `c = l1 d ||x||`, and activations are scaled to `||x|| = sqrt(d)` here.
    """
    return l1 * d**1.5


@torch.no_grad()
def geometric_median(x: Float[Tensor, "n d"], steps: int = 100, tolerance: float = 1e-6) -> Float[Tensor, " d"]:
    """The point with the least sum of distances to all rows, by Weiszfeld's iteration (1937)."""
    guess = x.mean(0)
    for _ in range(steps):
        weight = 1 / (x - guess).norm(dim=1).clamp_min(1e-8)
        better = (weight[:, None] * x).sum(0) / weight.sum()
        moved, guess = (better - guess).norm(), better
        if moved <= tolerance * guess.norm().clamp_min(1e-8):
            break
    return guess


@torch.no_grad()
def _inference(sae: Any) -> tuple[Any, Tensor]:
    """Rows and b_dec for inference, decoder rows of norm 1 (BatchTopK becomes JumpReLU with its running threshold)."""
    if hasattr(sae, "topk_threshold"):
        state = {key: value.detach().clone() for key, value in sae.state_dict().items()}
        sae.process_state_dict_for_saving_inference(state)
    else:
        sae.fold_W_dec_norm()
        state = {key: value.detach().clone() for key, value in sae.state_dict().items()}
    return fold(state, bool(sae.cfg.apply_b_dec_to_input))
