"""The objectives: one row each, and the numbers they share. The losses themselves are in losses.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hafbench.errors import HafError
from hafbench.registry import Entry, Options, Registry

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

Guard = Literal["none", "sft", "ceiling", "sdpo"]


class LossSettings(Options):
    """The numbers of an objective, at the paper's defaults as reported (arXiv 2605.25759).

    alpha: how much more an error inside M counts (eq. 4). tau: the margin at which the gap is held (eq. 6). beta: of
    the sigmoid (eq. 3); it is half of what Diffusion-DPO's own script calls beta_dpo. guard and guard_weight: see
    GUARDS in losses.py.
    """

    RENAMED: ClassVar[Mapping[str, str]] = {"ipo_beta": "beta", "mapo_beta": "beta"}

    alpha: NotNegative = 10.0
    tau: NotNegative = 0.01
    beta: Positive = 5000.0
    guard: Guard = "none"
    guard_weight: NotNegative = 1.0


class IpoSettings(LossSettings):
    """`beta` of identity preference optimization: it holds the gap at 1 / (2 beta)."""

    beta: Positive = 50.0


class MapoSettings(LossSettings):
    """`beta` and `snr` of MaPO's published training script."""

    beta: Positive = 0.1
    snr: Positive = 0.5


@dataclass(frozen=True)
class Objective(Entry):
    """A loss. `loader` is a function of `Errors` and settings that gives a loss (b,); `options`, LossSettings.

    localized: M counts. reference, loser: the frozen reference and the loser's branch are needed.
    """

    options: str | None = f"{__name__}:LossSettings"
    localized: bool = False
    reference: bool = True
    loser: bool = True

    @property
    def settings(self) -> type[LossSettings]:
        """The class of its numbers."""
        model = self.options_model
        if not issubclass(model, LossSettings):
            raise HafError(f"The objective '{self.name}': {self.options} is not a class of LossSettings.")
        return model


_LOSSES, _IPO, _MAPO = "asap_train.training.losses", f"{__name__}:IpoSettings", f"{__name__}:MapoSettings"

# fmt: off
_TABLE = (
    Objective("sft", "fine-tuning on the winners", f"{_LOSSES}:sft", reference=False, loser=False),
    Objective("sft-local", "fine-tuning on the winners, localized", f"{_LOSSES}:sft",
              localized=True, reference=False, loser=False),
    Objective("dpo", "Diffusion-DPO", f"{_LOSSES}:sigmoid"),
    Objective("dpo-local", "Diffusion-DPO, localized", f"{_LOSSES}:sigmoid", localized=True),
    Objective("margin", "margin-bounded, not localized", f"{_LOSSES}:margin"),
    Objective("asap", "localized and margin-bounded: ASAP", f"{_LOSSES}:margin", localized=True),
    Objective("ipo", "identity preference optimization", f"{_LOSSES}:ipo", _IPO),
    Objective("mapo", "MaPO, without a reference", f"{_LOSSES}:mapo", _MAPO, reference=False),
)
# fmt: on
OBJECTIVES: Registry[Objective] = Registry("objective", "asap_train.objectives", Objective, _TABLE)
