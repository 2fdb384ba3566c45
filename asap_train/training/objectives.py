"""The objectives: one row each, and the numbers they share. The losses themselves are in losses.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isclose
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from hafbench.errors import HafError
from hafbench.registry import Entry, Options, Registry

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

Guard = Literal["none", "sft", "ceiling", "sdpo"]
Number = Literal["tau", "beta"]


class LossSettings(Options):
    """The numbers of an objective, at the paper's defaults as reported (arXiv 2605.25759).

    alpha: how much more an error inside M counts (eq. 4). normalize: localized errors are divided by the number of
    elements (`pixels`, the paper's) or by the sum of the weights 1 + alpha M (`weights`). mask_dilation: M is grown by
    so many cells of the latents' grid.

    tau: the margin at which the gap is held (eq. 6). auto_tau: tau is instead the mean gap that is wanted, as a share
    of the reference's error at each time (see adaptive.py). beta: of the sigmoid (eq. 3); it is half of what
    Diffusion-DPO's own script calls beta_dpo. auto_beta: the sigmoid's slope at a typical gap is held at
    gradient_factor, and beta is the largest that may come of it (see adaptive.py).

    guard, guard_weight and anchor_weight: see GUARDS and `drift` in losses.py. Both weights are relative to the slope
    of the objective itself, so that 1 means the same with every objective.
    """

    alpha: NotNegative = 10.0
    normalize: Literal["pixels", "weights"] = "pixels"
    mask_dilation: Annotated[int, Field(ge=0)] = 0
    tau: NotNegative = 0.01
    auto_tau: bool = False
    beta: Positive = 5000.0
    auto_beta: bool = False
    gradient_factor: Annotated[float, Field(gt=0, lt=0.5)] = 0.2
    guard: Guard = "none"
    guard_weight: NotNegative = 1.0
    anchor_weight: NotNegative = 0.0


BETA = LossSettings.model_fields["beta"].default
SHARE = 1.6
"""The mean gap that asap asks for, over the reference's error."""


class AsapSettings(LossSettings):
    """ASAP with the margin and the guard of `ours` in docs/studies/experiment-hands.md.

    It had the least change of a picture for its errors. Without a tau it is the share SHARE of the reference's error. A
    tau that is given alone is the paper's: absolute.
    """

    guard: Guard = "sft"
    guard_weight: NotNegative = 0.5

    @model_validator(mode="before")
    @classmethod
    def _as_share(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and "tau" not in given and _is_true(given.get("auto_tau", True)):
            return {"auto_tau": True, **given, "tau": SHARE}
        return given


def _is_true(given: Any) -> bool:
    """Whether pydantic takes it for true, which YAML leaves as a text in the case of `n` and `f`."""
    try:
        return TypeAdapter(bool).validate_python(given)
    except ValidationError:  # said by the field itself
        return False


class IpoSettings(LossSettings):
    """The margin's numbers, of which tau may be given as 1 / (2 ipo_beta).

    Beside it stands no other tau: files of settings hold both.
    """

    ipo_beta: Positive | None = None

    @model_validator(mode="before")
    @classmethod
    def _as_tau(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and isinstance(beta := given.get("ipo_beta"), int | float) and beta > 0:
            tau = given.get("tau", 1 / (2 * beta))
            if isinstance(tau, int | float) and not isclose(tau, 1 / (2 * beta)):
                raise ValueError(f"ipo_beta {beta:g} is a tau of {1 / (2 * beta):g}, not {tau:g}; give one of them")
            return {**given, "tau": 1 / (2 * beta)}
        return given

    @model_validator(mode="after")
    def _own_beta(self) -> Self:
        _check_beta(self, "ipo_beta")
        return self


class MapoSettings(LossSettings):
    """`mapo_beta` and `snr`: beta and snr_value of MaPO's published training script."""

    mapo_beta: Positive = 0.1
    snr: Positive = 0.5

    @model_validator(mode="after")
    def _own_beta(self) -> Self:
        _check_beta(self, "mapo_beta")
        return self


def _check_beta(settings: LossSettings, own: str) -> None:
    # Files of settings hold every field: the default is what one that was never set looks like there.
    if settings.beta != BETA:
        raise ValueError(f"beta: this objective has no sigmoid of Diffusion-DPO; its own number is {own}")


@dataclass(frozen=True)
class Objective(Entry):
    """A loss. `loader` is a function of `Errors` and settings that gives a loss (b,); `options`, LossSettings.

    localized: M counts. reference, loser: the frozen reference and the loser's branch are needed. uses: which of tau
    and beta it has.
    """

    options: str | None = f"{__name__}:LossSettings"
    localized: bool = False
    reference: bool = True
    loser: bool = True
    uses: tuple[Number, ...] = ("tau", "beta")

    @property
    def settings(self) -> type[LossSettings]:
        """The class of its numbers."""
        model = self.options_model
        if not issubclass(model, LossSettings):
            raise HafError(f"The objective '{self.name}': {self.options} is not a class of LossSettings.")
        return model

    def refusal(self, settings: LossSettings) -> str | None:
        """Why these settings cannot be with this objective, in a sentence; None if they can."""
        needy = [("loss.guard 'ceiling'", settings.guard == "ceiling"), ("loss.anchor_weight", settings.anchor_weight)]
        for what, asked in needy:
            if asked and not self.reference:
                return f"{what} needs a reference model, which {self.name} does not have"
        if settings.guard == "sdpo" and not self.loser:
            return f"loss.guard 'sdpo' scales the gradients of two branches, and {self.name} has no loser's"
        weighed = [("loss.guard", settings.guard in ("sft", "ceiling")), ("loss.anchor_weight", settings.anchor_weight)]
        for what, asked in weighed:
            if asked and self.uses == ("tau",) and settings.tau == 0:
                return (
                    f"{what} is weighed by the slope of {self.name} at the start, 2 tau, and does nothing at loss.tau 0"
                )
        for flag, number in (("auto_tau", "tau"), ("auto_beta", "beta")):
            if getattr(settings, flag) and not (number in self.uses and self.reference):
                return f"loss.{flag}: {self.name} has no {number}"
        return None


_LOSSES = "asap_train.training.losses"
_ASAP, _IPO, _MAPO = (f"{__name__}:{name}" for name in ("AsapSettings", "IpoSettings", "MapoSettings"))

# fmt: off
_TABLE = (
    Objective("sft", "fine-tuning on the winners", f"{_LOSSES}:sft", reference=False, loser=False, uses=()),
    Objective("sft-local", "fine-tuning on the winners, localized", f"{_LOSSES}:sft",
              localized=True, reference=False, loser=False, uses=()),
    Objective("dpo", "Diffusion-DPO", f"{_LOSSES}:sigmoid", uses=("beta",)),
    Objective("dpo-local", "Diffusion-DPO, localized", f"{_LOSSES}:sigmoid", localized=True, uses=("beta",)),
    Objective("margin", "margin-bounded: IPO with tau = 1 / (2 beta)", f"{_LOSSES}:margin", uses=("tau",)),
    Objective("asap", "localized and margin-bounded: ASAP", f"{_LOSSES}:margin", _ASAP, localized=True, uses=("tau",)),
    Objective("ipo", "identity preference optimization: margin by another name", f"{_LOSSES}:margin", _IPO,
              uses=("tau",)),
    Objective("mapo", "MaPO, without a reference", f"{_LOSSES}:mapo", _MAPO, reference=False, uses=()),
)
# fmt: on
OBJECTIVES: Registry[Objective] = Registry("objective", "asap_train.objectives", Objective, _TABLE)
