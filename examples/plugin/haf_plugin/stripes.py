"""A generator: stripes, whatever the prompt says."""

from hafbench.registry import Entry, Options


class StripesOptions(Options):
    width: int = 4


class Stripes:
    def __init__(self, settings) -> None:
        self.name, self.settings = "stripes", settings

    def generate(self, prompts, seeds):
        import numpy as np
        from PIL import Image

        row = np.arange(64) // self.settings["width"] % 2 * 255
        rows = [np.tile(np.roll(row, seed).astype("uint8"), (64, 1)) for seed in seeds]
        return [Image.fromarray(pixels).convert("RGB") for pixels in rows]


def load(spec, device):
    return Stripes(spec.arguments)


LOADER, OPTIONS = f"{__name__}:load", f"{__name__}:StripesOptions"
ENTRY = Entry("stripes", "stripes of black and white", LOADER, OPTIONS)
