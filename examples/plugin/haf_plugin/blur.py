"""A family of degradations: a hand without its details."""

from asap_train.degrade import FamilyEntry
from asap_train.types import Candidate
from hafbench.registry import Options


class BlurOptions(Options):
    sigma: float = 6.0


class Blur:
    name = "blur"

    def __init__(self, options: BlurOptions) -> None:
        self.settings = options.model_dump()

    def degrade(self, photo, part, rng):
        import cv2

        if part.region == "hands":
            pixels = photo.pixels.copy()
            pixels[part.mask] = cv2.GaussianBlur(pixels, (0, 0), self.settings["sigma"])[part.mask]
            yield Candidate(pixels, part.mask, "hands", "configuration", "blurred_hand", self.name, self.settings)


def load(options: BlurOptions, device: str) -> Blur:
    return Blur(options)


ENTRY = FamilyEntry("blur", "a hand, blurred", f"{__name__}:load", f"{__name__}:BlurOptions", parallel=True)
