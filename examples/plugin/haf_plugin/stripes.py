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

        columns = np.arange(64) // self.settings["width"] % 2 * 255
        return [
            Image.fromarray(np.tile(np.roll(columns, seed), (64, 1)).astype("uint8")).convert("RGB") for seed in seeds
        ]


def load(spec, device):
    return Stripes(spec.arguments)


ENTRY = Entry("stripes", "stripes of black and white", f"{__name__}:load", f"{__name__}:StripesOptions")
