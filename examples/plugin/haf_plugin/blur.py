"""A family of degradations: a hand without its details."""

from asap_train.degrade import FamilyEntry
from asap_train.types import Candidate
from hafbench.registry import Options


class BlurOptions(Options):
    sigma: float = 6.0


class Blur:
    def __init__(self, options: BlurOptions, device: str) -> None:
        self.name, self.settings = "blur", options.model_dump()

    def degrade(self, photo, part, rng):
        import cv2

        if part.region == "hands":
            blurred = cv2.GaussianBlur(photo.pixels, (0, 0), self.settings["sigma"])
            pixels = cv2.copyTo(blurred, part.mask.astype("uint8"), photo.pixels.copy())
            error = ("hands", "configuration", "blurred_hand")
            yield Candidate(pixels, part.mask, *error, self.name, self.settings)


LOADER, OPTIONS = f"{__name__}:Blur", f"{__name__}:BlurOptions"
ENTRY = FamilyEntry("blur", "a hand, blurred", LOADER, OPTIONS, parallel=True)
