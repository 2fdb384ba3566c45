"""A scorer: how much the grey values of an image differ."""

from hafbench.registry import Options
from hafbench.scorers import ScorerEntry
from hafbench.types import Score


class ContrastOptions(Options):
    ceiling: float = 128.0


class Contrast:
    name, version, role, higher_is_better = "contrast", "1", "quality", True
    about = "Standard deviation of the grey values, as a share of a ceiling."

    def __init__(self, options: ContrastOptions) -> None:
        self.settings = options.model_dump()

    def score(self, image, prompt):
        share = float(image.mean(2).std()) / self.settings["ceiling"]
        return Score("scored", min(1.0, share))


def load(options: ContrastOptions, device: str) -> Contrast:
    return Contrast(options)


LOADER, OPTIONS = f"{__name__}:load", f"{__name__}:ContrastOptions"
ENTRY = ScorerEntry("contrast", "spread of greys", LOADER, OPTIONS, role="quality")
