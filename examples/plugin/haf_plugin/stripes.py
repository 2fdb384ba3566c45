"""A generator: stripes, whatever the prompt says."""

from hafbench.registry import Entry, Options


class StripesOptions(Options):
    width: int = 4


class Stripes:
    name = "stripes"

    def __init__(self, width: int) -> None:
        self.settings = {"width": width}

    def generate(self, prompts, seeds):
        import numpy as np
        from PIL import Image

        columns = np.arange(64) // self.settings["width"] % 2 * 255
        return [
            Image.fromarray(np.tile(np.roll(columns, seed), (64, 1)).astype("uint8")).convert("RGB") for seed in seeds
        ]


def load(spec, device):
    return Stripes(spec.arguments["width"])


ENTRY = Entry("stripes", "stripes of black and white", f"{__name__}:load", f"{__name__}:StripesOptions")
