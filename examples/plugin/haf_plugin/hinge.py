"""An objective: the gap is pushed up to tau and left alone beyond it."""

from asap_train.training.objectives import LossSettings, Objective


class HingeSettings(LossSettings):
    tau: float = 0.05


def hinge(errors, settings: HingeSettings):
    """max(0, tau - delta), (b,)."""
    return (settings.tau - errors.delta).relu()


LOADER, OPTIONS = f"{__name__}:hinge", f"{__name__}:HingeSettings"
ENTRY = Objective("hinge", "localized hinge", LOADER, OPTIONS, localized=True)
