"""A judge: suspects an error in every dark picture."""

import json

from hafbench.judges.questions import Reply
from hafbench.registry import Entry, Options


class CautiousOptions(Options):
    darkest: float = 64.0


class Cautious:
    def __init__(self, options: CautiousOptions) -> None:
        self.name, self.version, self.settings = "cautious", "1", options.model_dump()

    async def answer(self, question):
        dark = question.pictures[-1].pixels.mean() < self.settings["darkest"]
        return Reply(json.dumps({"observations": "", "error": "yes" if dark else "no", "sure": 60, "faults": []}))

    async def close(self):
        pass


def load(options: CautiousOptions, device: str) -> Cautious:
    return Cautious(options)


ENTRY = Entry("cautious", "suspects dark pictures", f"{__name__}:load", f"{__name__}:CautiousOptions")
