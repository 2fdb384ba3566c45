"""A judge: suspects an error wherever the prompt asks for many hands."""

from hafbench.registry import Entry, Options
from hafbench.types import Finding, Score


class CautiousOptions(Options):
    most: int = 1


class Cautious:
    def __init__(self, options: CautiousOptions) -> None:
        self.name, self.version, self.settings = "cautious", "1", options.model_dump()

    def judge(self, image, prompt):
        if prompt is None or prompt.expect.hands is None:
            return Score("unknown", reason="the prompt does not say how many hands")
        many = prompt.expect.hands > self.settings["most"]
        finding = Finding("hands", "configuration", "many_hands", 0.9)
        found = (finding,) if many else ()
        return Score("scored", 0.9 if many else 0.1, many, findings=found)


def load(options: CautiousOptions, device: str) -> Cautious:
    return Cautious(options)


LOADER, OPTIONS = f"{__name__}:load", f"{__name__}:CautiousOptions"
ENTRY = Entry("cautious", "doubts many hands", LOADER, OPTIONS)
