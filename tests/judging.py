"""Pictures and scripted judges for tests of judging: flat pictures, each known to be sound or to have an error."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.scripted_judge import Server
from hafbench.judges.parts import shown
from hafbench.registry import Options
from hafbench.scorers.judge import Options as JudgeOptions
from hafbench.specs import ScorerSpec, ScoreSpec


def colour(number: int) -> tuple[int, int, int]:
    return number % 256, number // 256 % 256, 100


def make_images(folder: Path, bad: Sequence[bool], first: int = 0) -> dict[str, bool]:
    """000.png and on, of different colours; returns whether there is an error by what a judge is shown."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = {}
    for number, error in enumerate(bad):
        picture = Image.new("RGB", (16, 16), colour(first + number))
        picture.save(folder / f"{number:03}.png")
        truth[shown(np.asarray(picture)).sha256] = error
    return truth


def judge_options(server: Server, store: Path, **more: object) -> JudgeOptions:
    options: Mapping[str, object] = {"timeout": 20, "max_retries": 3}
    judges = [{"judge": server.url, "model": "scripted", "options": options}]
    return JudgeOptions.model_validate({"judges": judges, "protocol": "single", "store": store, **more})


def score_spec(images: Path, options: Options, **more: object) -> ScoreSpec:
    scorer = ScorerSpec(name="judge", options=options)
    return ScoreSpec.model_validate({"images": images, "scorers": (scorer,), **more})
