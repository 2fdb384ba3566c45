"""The losses: from what policy and reference get wrong on the two images of a pair to one number a sample.

Every objective is a function of `Residuals` and `Weights`, listed in OBJECTIVES. b is the batch, ... the shape of a
latent, such as (channels, height, width), or (tokens, channels) where a model packs its latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

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
class Weights:
    """The numbers of the objectives, at the paper's defaults as reported (arXiv 2605.25759).

    alpha: how much more an error inside M counts (eq. 4). tau: the margin at which the gap is held (eq. 6). beta: of
    the sigmoid (eq. 3); it is half of what Diffusion-DPO's own script calls beta_dpo. ipo_beta and mapo_beta: of these
    two. snr: of MaPO. guard and guard_weight: see GUARDS.
    """

    alpha: float = 10.0
    tau: float = 0.01
    beta: float = 5000.0
    ipo_beta: float = 50.0
    mapo_beta: float = 0.1
    snr: float = 0.5
    guard: str = "none"
    guard_weight: float = 1.0


@dataclass(frozen=True)
class Loss:
    """What an objective says. `total` is the scalar to descend; the rest, (b,), is without gradient, for the log.

    `delta` is the preference gap: 0 where policy and reference are one, above 0 where the policy has come to prefer the
    winner more. `winner`, `loser`, `ref_winner` and `ref_loser` are the weighted mean squared errors behind it; NaN
    where there is no reference.
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


def sft(errors: Errors, weights: Weights) -> Tensor:
    """L(w): fine-tuning on the winners alone, in squared units of the prediction, (b,)."""
    return errors.winner


def sigmoid(errors: Errors, weights: Weights) -> Tensor:
    """-log sigmoid(beta delta), (b,): Diffusion-DPO (Wallace et al., arXiv 2311.12908, eq. 14; ASAP, eq. 3).

    Taken per sample; the mean over the batch comes after it. Their script's factor 0.5 is in beta here.
    """
    return -logsigmoid(weights.beta * errors.delta)


def margin(errors: Errors, weights: Weights) -> Tensor:
    """(delta - tau)^2, (b,): the gap is led to a finite margin and held there (ASAP, eq. 6)."""
    return (errors.delta - weights.tau).square()


def ipo(errors: Errors, weights: Weights) -> Tensor:
    """(delta - 1 / (2 beta))^2, (b,): identity preference optimization (Azar et al., arXiv 2310.12036, eq. 17).

    As diffusers' research script for diffusion DPO has it; the same form as `margin`, with the margin 1 / (2 beta).
    """
    return (errors.delta - 1 / (2 * weights.ipo_beta)).square()


def mapo(errors: Errors, weights: Weights) -> Tensor:
    """L(w) - beta log sigmoid(T (f(L(w)) - f(L(l)))), f(x) = snr x / (exp(snr x) - 1), (b,): MaPO, without reference.

    Hong et al., arXiv 2406.06424, as in their published training script (snr 0.5, T = 1000 timesteps).
    """

    def odds(error: Tensor) -> Tensor:
        scaled = weights.snr * error
        return scaled / torch.expm1(scaled)

    gap = odds(errors.winner) - odds(errors.loser)
    return errors.winner - weights.mapo_beta * logsigmoid(STEPS * gap)


@dataclass(frozen=True)
class Objective:
    """A loss (b,) of mean errors; whether M counts, and whether reference and loser are needed."""

    about: str
    loss: Callable[[Errors, Weights], Tensor]
    localized: bool
    reference: bool
    loser: bool = True


OBJECTIVES: Mapping[str, Objective] = {
    "sft": Objective("fine-tuning on the winners", sft, False, False, loser=False),
    "sft-local": Objective("fine-tuning on the winners, localized", sft, True, False, loser=False),
    "dpo": Objective("Diffusion-DPO", sigmoid, False, True),
    "dpo-local": Objective("Diffusion-DPO, localized", sigmoid, True, True),
    "margin": Objective("margin-bounded, not localized", margin, False, True),
    "asap": Objective("localized and margin-bounded: ASAP", margin, True, True),
    "ipo": Objective("identity preference optimization", ipo, False, True),
    "mapo": Objective("MaPO, without a reference", mapo, False, False),
}

Guard = Callable[[Errors, Weights], Tensor]


def _no_guard(errors: Errors, weights: Weights) -> Tensor:
    return torch.zeros_like(errors.winner)


def _winner_term(errors: Errors, weights: Weights) -> Tensor:
    """guard_weight L(w), (b,): the winners are learnt, too."""
    return weights.guard_weight * errors.winner


def _ceiling(errors: Errors, weights: Weights) -> Tensor:
    """guard_weight max(0, L(w) - L_ref(w)), (b,): only what rises above the reference is pulled back."""
    return weights.guard_weight * torch.relu(errors.winner - errors.ref_winner)


GUARDS: Mapping[str, Guard] = {"none": _no_guard, "sft": _winner_term, "ceiling": _ceiling, "sdpo": _no_guard}
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


def compute(name: str, residuals: Residuals, weights: Weights) -> Loss:
    """The loss of the objective `name` of OBJECTIVES with the guard `weights.guard`: the mean over the samples.

    Raises KeyError for a name that is none, and ValueError for an objective or guard that lacks its reference.
    """
    objective, guard = OBJECTIVES[name], GUARDS[weights.guard]
    alpha = weights.alpha if objective.localized else 0.0
    errors = errors_of(residuals, alpha)
    if not errors.reference and (objective.reference or weights.guard == "ceiling"):
        raise ValueError(f"{name} with the guard {weights.guard} needs the reference's residuals")
    held = errors
    if weights.guard == "sdpo":
        scale = safe_scale(residuals, alpha)
        kept = scale * errors.loser + (1 - scale) * errors.loser.detach()
        held = Errors(errors.winner, kept, errors.ref_winner, errors.ref_loser, errors.reference)
    total = (objective.loss(held, weights) + guard(errors, weights)).mean()
    parts = (errors.delta, errors.winner, errors.loser, errors.ref_winner, errors.ref_loser)
    return Loss(total, *(part.detach() for part in parts))
