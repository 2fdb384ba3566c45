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

from asap_train.training.objectives import OBJECTIVES, Guard, LossSettings, MapoSettings

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
    than the reference does. `target` is the gap at which margin losses hold it. `winner`, `loser`, `ref_winner` and
    `ref_loser` are the weighted mean squared errors behind it; what needs a reference is NaN where there is none.
    `draws` (b, k) are the gaps of the k draws of each sample, whose mean is delta.
    """

    total: Tensor
    delta: Tensor
    draws: Tensor
    target: Tensor
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

    @property
    def scale(self) -> Tensor:
        """(L_ref(w) + L_ref(l)) / 2: how large errors are at a sample's noise and time, whatever the policy is."""
        return (self.ref_winner + self.ref_loser) / 2


def mean_error(residual: Tensor, weight: Tensor, normalize: str = "pixels") -> Tensor:
    """The mean over all elements of weight x residual^2, per sample: (b, ...) to (b,).

    With the weight 1 + alpha M this is ASAP's eq. 4. `normalize` as in LossSettings: by `pixels` an error counts the
    more, the larger M is, up to (1 + alpha) times; by `weights` the sum is divided by that of the weights, so that an
    even error counts the same whatever alpha and M are, and tau and beta mean what they mean without localization.
    """
    flat = (weight * wide(residual).square()).flatten(1).mean(1)
    return flat if normalize == "pixels" else flat / weight.expand_as(residual).flatten(1).mean(1).clamp_min(1e-12)


def wide(values: Tensor) -> Tensor:
    """At least float32: squares of half-precision numbers would lose what tau = 0.01 is about."""
    return values if values.dtype == torch.float64 else values.float()


def errors_of(residuals: Residuals, alpha: float, normalize: str = "pixels") -> Errors:
    """The four mean errors; with alpha = 0 M does not count. NaN for a reference that is not there."""
    r, weight = residuals, 1 + alpha * residuals.mask
    winner, loser = (mean_error(branch, weight, normalize) for branch in (r.winner, r.loser))
    if r.ref_winner is None or r.ref_loser is None:
        nothing = torch.full_like(winner.detach(), torch.nan)
        return Errors(winner, loser, nothing, nothing, False)
    with torch.no_grad():
        ref_winner, ref_loser = (mean_error(branch, weight, normalize) for branch in (r.ref_winner, r.ref_loser))
    return Errors(winner, loser, ref_winner, ref_loser, True)


def gaps_of_draws(residuals: Residuals, alpha: float, normalize: str = "pixels") -> Tensor:
    """delta of each draw of a sample alone, (b, k): the second axis of residuals of five or more axes, else k is 1."""
    r = residuals
    if r.winner.ndim < len(("pair", "draw", "channel", "height", "width")):
        return errors_of(r, alpha, normalize).delta.detach()[:, None]
    pairs, draws = r.winner.shape[:2]
    mask = r.mask.expand(-1, draws, *r.mask.shape[2:]).flatten(0, 1)
    winner, loser = (branch.detach().flatten(0, 1) for branch in (r.winner, r.loser))
    references = (None if one is None else one.flatten(0, 1) for one in (r.ref_winner, r.ref_loser))
    return errors_of(Residuals(winner, loser, mask, *references), alpha, normalize).delta.unflatten(0, (pairs, draws))


def drift(residuals: Residuals, normalize: str = "pixels") -> Tensor:
    """The mean over both branches of (1 - M) (prediction - the reference's)^2, (b,): what changed outside M.

    The target is the same for both, so that the difference of residuals is that of the predictions.
    """
    r, outside = residuals, 1 - residuals.mask
    assert r.ref_winner is not None and r.ref_loser is not None  # noqa: S101 (`compute` has checked)
    branches = ((r.winner, r.ref_winner), (r.loser, r.ref_loser))
    one, other = (mean_error(wide(own) - wide(ref), outside, normalize) for own, ref in branches)
    return (one + other) / 2


def sft(errors: Errors, settings: LossSettings) -> Tensor:
    """L(w): fine-tuning on the winners alone, in squared units of the prediction, (b,)."""
    return errors.winner


def sigmoid(errors: Errors, settings: LossSettings) -> Tensor:
    """-log sigmoid(beta delta), (b,): Diffusion-DPO (Wallace et al., arXiv 2311.12908, eq. 14; ASAP, eq. 3).

    Taken per sample; the mean over the batch comes after it. Their script's factor 0.5 is in beta here.
    """
    return -logsigmoid(settings.beta * errors.delta)


def target_of(errors: Errors, settings: LossSettings) -> Tensor:
    """The gap at which the margin holds a sample, (b,): tau, or with auto_tau that share of the reference's error."""
    return settings.tau * (errors.scale if settings.auto_tau else torch.ones_like(errors.winner.detach()))


def margin(errors: Errors, settings: LossSettings) -> Tensor:
    """(delta - tau)^2, (b,): the gap is brought to a finite margin and held there (ASAP, eq. 6).

    This is identity preference optimization (Azar et al., arXiv 2310.12036, eq. 17) on diffusion losses, as diffusers'
    research script for diffusion DPO has it, with tau = 1 / (2 beta); ASAP is its localized form.

    The mean gap stays below tau: of the gaps s g that a direction g of the weights gives at size s, the one of least
    E[(s g - tau)^2] has s = tau E[g] / E[g^2], and the mean gap s E[g] = tau / (1 + CV^2), CV the standard deviation of
    the gaps over their mean. More noises a pair (`noise_draws`) lower CV; see adaptive.py for the other way out.
    """
    return (errors.delta - target_of(errors, settings)).square()


def mapo(errors: Errors, settings: MapoSettings) -> Tensor:
    """L(w) - beta log sigmoid(T (f(L(w)) - f(L(l)))), f(x) = snr x / (exp(snr x) - 1), (b,): MaPO, without reference.

    Hong et al., arXiv 2406.06424, as in their published training script (snr 0.5, T = 1000 timesteps); beta is
    `mapo_beta`.
    """

    def odds(error: Tensor) -> Tensor:
        scaled = settings.snr * error
        return scaled / torch.expm1(scaled)

    gap = odds(errors.winner) - odds(errors.loser)
    return errors.winner - settings.mapo_beta * logsigmoid(STEPS * gap)


LossTerm = Callable[[Errors, LossSettings], Tensor]


def slopes_of(loss: LossTerm, errors: Errors, settings: LossSettings) -> tuple[Tensor, Tensor]:
    """The derivatives (b,) of a sample's loss by L(w) and by L(l), without gradient."""
    with torch.enable_grad():
        winner, loser = (error.detach().requires_grad_() for error in (errors.winner, errors.loser))
        total = loss(Errors(winner, loser, errors.ref_winner, errors.ref_loser, errors.reference), settings).sum()
        one, other = torch.autograd.grad(total, (winner, loser), materialize_grads=True)
    return one, other


def slope_at_start(loss: LossTerm, errors: Errors, settings: LossSettings) -> Tensor:
    """The size of the derivative by L(w) where policy and reference agree, (b,): what the weights of guards multiply.

    It is 1 for sft, 2 tau for margin losses, beta / 2 for the sigmoid, and for mapo, which knows no reference, that at
    two equal small errors, 1 + mapo_beta snr T / 4.
    """
    if errors.reference:
        start = Errors(errors.ref_winner, errors.ref_loser, errors.ref_winner, errors.ref_loser, True)
    else:
        # In single precision the derivative at so small errors is rounding.
        small = torch.full_like(errors.winner.detach(), 1e-6, dtype=torch.float64)
        start = Errors(small, small, errors.ref_winner, errors.ref_loser, False)
    return slopes_of(loss, start, settings)[0].abs().to(errors.winner.dtype)


def _none(errors: Errors) -> Tensor:
    return torch.zeros_like(errors.winner)


def _winner(errors: Errors) -> Tensor:
    """L(w): the winners are learnt, too."""
    return errors.winner


def _ceiling(errors: Errors) -> Tensor:
    """max(0, L(w) - L_ref(w)): only what rises above the reference is pulled back."""
    return torch.relu(errors.winner - errors.ref_winner)


GUARDS: Mapping[Guard, Callable[[Errors], Tensor]] = {
    "none": _none,
    "sft": _winner,
    "ceiling": _ceiling,
    "sdpo": _none,
}
"""What keeps L(w) from rising above the reference's while the gap grows, a known failure of diffusion DPO.

`sft` and `ceiling` add a term of L(w), times guard_weight and the objective's own slope at the start: with the weight 1
it pulls the winner as hard as the objective does there, whichever objective it is. `sdpo` scales gradients instead, and
has no weight (see `safe_scales`).
"""


def safe_scales(residuals: Residuals, alpha: float, slopes: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """How much of the winner's and of the loser's gradient leaves L(w) no larger, to first order: each (b,) in [0, 1].

    With g_w and g_l the gradients of the two errors by the predictions, and a and b the loss's `slopes` by them, a step
    against s_w a g_w + s_l b g_l changes L(w) by -(s_w A + s_l B), A = a |g_w|^2 and B = b <g_w, g_l>. Where A + B < 0
    the negative ones of the two are scaled by (what is positive) / -(what is negative).

    For a = -b > 0 this is Diffusion-SDPO's output-space rule (Fu et al., arXiv 2511.03317), s_l = |g_w|^2 / <g_w, g_l>.
    Beyond the margin the signs are the other ones, a < 0: there it is the winner that would rise, and the gap is
    brought back by the loser alone, s_w = <g_w, g_l> / |g_w|^2, or not at all where <g_w, g_l> < 0.
    """
    with torch.no_grad():
        weight = 1 + alpha * residuals.mask
        one, other = ((weight * wide(branch)).flatten(1) for branch in (residuals.winner, residuals.loser))
        own, cross = slopes[0] * one.square().sum(1), slopes[1] * (one * other).sum(1)
        good, bad = own.relu() + cross.relu(), (-own).relu() + (-cross).relu()
        scale = torch.where(bad > good, good / bad.clamp_min(1e-30), torch.ones_like(bad))
        whole = torch.ones_like(scale)
        return torch.where(own < 0, scale, whole), torch.where(cross < 0, scale, whole)


def compute(name: str, residuals: Residuals, settings: LossSettings) -> Loss:
    """The loss of the objective `name` of OBJECTIVES with the guard `settings.guard`: the mean over the samples.

    Raises HafError for a name that is unknown, and ValueError for an objective or guard that lacks its reference.
    """
    objective, guard = OBJECTIVES.get(name), settings.guard
    alpha = settings.alpha if objective.localized else 0.0
    errors = errors_of(residuals, alpha, settings.normalize)
    if not errors.reference and (objective.reference or guard == "ceiling" or settings.anchor_weight):
        raise ValueError(f"{name} with the guard {guard} needs the reference's residuals")
    loss: LossTerm = objective.load()
    held = errors
    if guard == "sdpo":
        scales = safe_scales(residuals, alpha, slopes_of(loss, errors, settings))
        winner, loser = (
            scale * error + (1 - scale) * error.detach()
            for scale, error in zip(scales, (errors.winner, errors.loser), strict=True)
        )
        held = Errors(winner, loser, errors.ref_winner, errors.ref_loser, errors.reference)
    total = loss(held, settings)
    beside = settings.guard_weight * GUARDS[guard](errors)
    if settings.anchor_weight:
        beside = beside + settings.anchor_weight * drift(residuals, settings.normalize)
    if guard != "none" or settings.anchor_weight:
        total = total + slope_at_start(loss, errors, settings) * beside
    draws = gaps_of_draws(residuals, alpha, settings.normalize)
    target = target_of(errors, settings)
    parts = (errors.delta, draws, target, errors.winner, errors.loser, errors.ref_winner, errors.ref_loser)
    return Loss(total.mean(), *(part.detach() for part in parts))
