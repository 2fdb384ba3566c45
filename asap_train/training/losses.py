"""The losses: from the residuals of policy and reference on the two images of a pair to one number a sample.

Each is a function of `Errors` and the numbers of its objective (objectives.py). b is the batch, ... the shape of a
latent, such as (channels, height, width), or (tokens, channels) where a model packs its latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from asap_train.training.objectives import OBJECTIVES, Guard, IpoSettings, LossSettings, MapoSettings

STEPS = 1000
"""Timesteps of the noise schedules that MaPO's margin is scaled by."""


@dataclass(frozen=True)
class Residuals:
    """Prediction minus target, (b, ...), of the winner's and the loser's branch, each against its own target.

    Both branches have the same noise and the same timestep. `ref_winner` and `ref_loser` are those of the frozen
    reference, without gradient; None for objectives that need none. `mask` is M on the latents' grid, 0 to 1, in a
    shape that broadcasts to theirs.
    """

    winner: Tensor
    loser: Tensor
    mask: Tensor
    ref_winner: Tensor | None = None
    ref_loser: Tensor | None = None

    def swapped(self) -> Residuals:
        """The same pairs with the other image preferred."""
        return Residuals(self.loser, self.winner, self.mask, self.ref_loser, self.ref_winner)


@dataclass(frozen=True)
class Loss:
    """The loss of a batch. `total` is the scalar to minimize; the rest, (b,), is without gradient, for the log.

    `delta` is the preference gap: 0 where policy and reference agree, above 0 where the policy prefers the winner more
    than the reference does. `winner`, `loser`, `ref_winner` and `ref_loser` are the weighted mean squared errors behind
    it; NaN where there is no reference.
    """

    total: Tensor
    delta: Tensor
    winner: Tensor
    loser: Tensor
    ref_winner: Tensor
    ref_loser: Tensor


@dataclass(frozen=True)
class Errors:
    """The four weighted mean squared errors (b,) of Residuals, with gradient; `reference` says if there are four."""

    winner: Tensor
    loser: Tensor
    ref_winner: Tensor
    ref_loser: Tensor
    reference: bool

    @property
    def delta(self) -> Tensor:
        """-[(L(w) - L(l)) - (L_ref(w) - L_ref(l))], per sample (ASAP, eq. 2 and 5)."""
        return -((self.winner - self.loser) - (self.ref_winner - self.ref_loser))


def mean_error(residual: Tensor, mask: Tensor, alpha: float) -> Tensor:
    """The mean over all elements of (1 + alpha M) residual^2, per sample: (b, ...) to (b,) (ASAP, eq. 4)."""
    return ((1 + alpha * mask) * _wide(residual).square()).flatten(1).mean(1)


def _wide(values: Tensor) -> Tensor:
    """At least float32: squares of half-precision numbers would lose what tau = 0.01 is about."""
    return values if values.dtype == torch.float64 else values.float()


def errors_of(residuals: Residuals, alpha: float) -> Errors:
    """The four mean errors; with alpha = 0 M does not count. NaN for a reference that is not there."""
    r = residuals
    winner, loser = (mean_error(branch, r.mask, alpha) for branch in (r.winner, r.loser))
    if r.ref_winner is None or r.ref_loser is None:
        nothing = torch.full_like(winner.detach(), torch.nan)
        return Errors(winner, loser, nothing, nothing, False)
    with torch.no_grad():
        ref_winner, ref_loser = (mean_error(branch, r.mask, alpha) for branch in (r.ref_winner, r.ref_loser))
    return Errors(winner, loser, ref_winner, ref_loser, True)


def sft(errors: Errors, settings: LossSettings) -> Tensor:
    """L(w): fine-tuning on the winners alone, in squared units of the prediction, (b,)."""
    return errors.winner


def sigmoid(errors: Errors, settings: LossSettings) -> Tensor:
    """-log sigmoid(beta delta), (b,): Diffusion-DPO (Wallace et al., arXiv 2311.12908, eq. 14; ASAP, eq. 3).

    Taken per sample; the mean over the batch comes after it. Their script's factor 0.5 is in beta here.
    """
    return -logsigmoid(settings.beta * errors.delta)


def margin(errors: Errors, settings: LossSettings) -> Tensor:
    """(delta - tau)^2, (b,): the gap is brought to a finite margin and held there (ASAP, eq. 6)."""
    return (errors.delta - settings.tau).square()


def ipo(errors: Errors, settings: IpoSettings) -> Tensor:
    """(delta - 1 / (2 beta))^2, (b,): identity preference optimization (Azar et al., arXiv 2310.12036, eq. 17).

    As diffusers' research script for diffusion DPO has it; the same form as `margin`, with the margin 1 / (2 beta).
    """
    return (errors.delta - 1 / (2 * settings.beta)).square()


def mapo(errors: Errors, settings: MapoSettings) -> Tensor:
    """L(w) - beta log sigmoid(T (f(L(w)) - f(L(l)))), f(x) = snr x / (exp(snr x) - 1), (b,): MaPO, without reference.

    Hong et al., arXiv 2406.06424, as in their published training script (snr 0.5, T = 1000 timesteps).
    """

    def odds(error: Tensor) -> Tensor:
        scaled = settings.snr * error
        return scaled / torch.expm1(scaled)

    gap = odds(errors.winner) - odds(errors.loser)
    return errors.winner - settings.beta * logsigmoid(STEPS * gap)


LossTerm = Callable[[Errors, LossSettings], Tensor]


def _no_guard(errors: Errors, settings: LossSettings) -> Tensor:
    return torch.zeros_like(errors.winner)


def _winner_term(errors: Errors, settings: LossSettings) -> Tensor:
    """guard_weight L(w), (b,): the winners are learnt, too."""
    return settings.guard_weight * errors.winner


def _ceiling(errors: Errors, settings: LossSettings) -> Tensor:
    """guard_weight max(0, L(w) - L_ref(w)), (b,): only what rises above the reference is pulled back."""
    return settings.guard_weight * torch.relu(errors.winner - errors.ref_winner)


GUARDS: Mapping[Guard, LossTerm] = {"none": _no_guard, "sft": _winner_term, "ceiling": _ceiling, "sdpo": _no_guard}
"""What keeps L(w) from rising above the reference's while the gap grows, a known failure of diffusion DPO.

`sft` and `ceiling` add a term; `sdpo` scales the loser's gradient instead (see `safe_scale`).
"""


def safe_scale(residuals: Residuals, alpha: float) -> Tensor:
    """How much of the loser's gradient leaves the winner's error no larger, to first order: (b,) in [0, 1].

    With g_w and g_l the gradients of both errors by the predictions, a step along -(g_w - s g_l) changes the winner's
    error by -|g_w|^2 + s <g_w, g_l>: s may be at most |g_w|^2 / <g_w, g_l> where that product is positive. After
    Diffusion-SDPO (Fu et al., arXiv 2511.03317), whose output-space approximation this is.
    """
    with torch.no_grad():
        weight = 1 + alpha * residuals.mask
        one, other = ((weight * _wide(branch)).flatten(1) for branch in (residuals.winner, residuals.loser))
        product = (one * other).sum(1)
        return torch.where(product > 0, one.square().sum(1) / product.clamp_min(1e-12), 1.0).clamp(0.0, 1.0)


def compute(name: str, residuals: Residuals, settings: LossSettings) -> Loss:
    """The loss of the objective `name` of OBJECTIVES with the guard `settings.guard`: the mean over the samples.

    Raises HafError for a name that is unknown, and ValueError for an objective or guard that lacks its reference.
    """
    objective, guard = OBJECTIVES.get(name), settings.guard
    alpha = settings.alpha if objective.localized else 0.0
    errors = errors_of(residuals, alpha)
    if not errors.reference and (objective.reference or guard == "ceiling"):
        raise ValueError(f"{name} with the guard {guard} needs the reference's residuals")
    held = errors
    if guard == "sdpo":
        scale = safe_scale(residuals, alpha)
        kept = scale * errors.loser + (1 - scale) * errors.loser.detach()
        held = Errors(errors.winner, kept, errors.ref_winner, errors.ref_loser, errors.reference)
    loss: LossTerm = objective.load()
    total = (loss(held, settings) + GUARDS[guard](errors, settings)).mean()
    parts = (errors.delta, errors.winner, errors.loser, errors.ref_winner, errors.ref_loser)
    return Loss(total, *(part.detach() for part in parts))
