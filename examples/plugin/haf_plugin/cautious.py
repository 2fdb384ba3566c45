"""A judge: suspects an error wherever the prompt asks for many hands."""

from hafbench.registry import Entry, Options
from hafbench.types import Finding, Score


class CautiousOptions(Options):
    most: int = 1


class Cautious:
    name, version = "cautious", "1"

    def __init__(self, options: CautiousOptions) -> None:
        self.settings = options.model_dump()

    def judge(self, image, prompt):
        if prompt is None or prompt.expect.hands is None:
            return Score("unknown", reason="the prompt does not say how many hands there are")
        doubt = 0.9 if prompt.expect.hands > self.settings["most"] else 0.1
        found = (Finding("hands", "configuration", "many_hands", doubt),) if doubt > 0.5 else ()
        return Score("scored", doubt, doubt > 0.5, findings=found)


def load(options: CautiousOptions, device: str) -> Cautious:
    return Cautious(options)


ENTRY = Entry("cautious", "doubts many hands", f"{__name__}:load", f"{__name__}:CautiousOptions")
