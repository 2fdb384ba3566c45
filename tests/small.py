"""The smallest real generator and scorers: pictures made of arithmetic, so that every score is known by hand."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from hafbench import provenance
from hafbench.evaluate import describe, evaluate
from hafbench.manifest import GeneratorFacts, ImagesFacts, Manifest, ScorerFacts, SuiteFacts
from hafbench.records import Sample
from hafbench.runs import Run, open_run
from hafbench.scorers import load_scorer
from hafbench.specs import RunSpec, ScorerSpec, ScoreSpec
from hafbench.suites import Category, Prompt
from hafbench.types import Finding, Role, Score, Scorer

T = TypeVar("T")


def not_none(value: T | None) -> T:
    """A value that is there, or the test fails."""
    assert value is not None
    return value


def a_scorer(name: str, device: str = "cpu", **options: Any) -> Scorer:
    """A registered scorer with these options."""
    return load_scorer(name, ScorerSpec.model_validate({"name": name, "options": options}).options, device)


def facts(version: str) -> ScorerFacts:
    """What run.json says of an anatomy scorer without settings."""
    return ScorerFacts(role="anatomy", about="-", version=version)


def manifest_of(
    scorers: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    name: str = "painter",
    seeds: int = 1,
    first_seed: int = 0,
) -> Manifest:
    """What run.json begins with for a run of a generator with these settings."""
    return Manifest(
        command="run",
        name=name,
        request=RunSpec(seeds=seeds, first_seed=first_seed, scorers=()),
        suite=SuiteFacts(name="tiny", sha256="0", limit=None, seeds=seeds, first_seed=first_seed),
        generator=GeneratorFacts(name=name, settings=settings),
        scorers=describe(scorers),
        image_root="images",
        **provenance.made_with(),
    )


def painted(prompt_id: str, seed: int) -> Image.Image:
    """A 16 x 16 picture of noise that is a function of the prompt's id and the seed."""
    digest = hashlib.sha256(f"{prompt_id}/{seed}".encode()).digest()
    rng = np.random.default_rng(list(digest))
    return Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))


class Painter:
    """Paints; fails on the prompts named in `broken`, and on any batch of more than `fits`."""

    name = "painter"

    def __init__(self, broken: Sequence[str] = (), fits: int = 1000) -> None:
        self.settings: Mapping[str, Any] = {"broken": list(broken)}
        self.broken, self.fits = set(broken), fits
        self.batches: list[int] = []

    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> list[Image.Image]:
        self.batches.append(len(prompts))
        if len(prompts) > self.fits:
            raise MemoryError("out of memory")
        if self.broken & {prompt.id for prompt in prompts}:
            raise ValueError("this prompt breaks the painter")
        return [painted(prompt.id, seed) for prompt, seed in zip(prompts, seeds, strict=True)]


class Brightness:
    """value = mean of the pixels / 255; dark images are errors."""

    name, version, about = "hands", "1", "mean brightness"
    role: Role = "anatomy"
    higher_is_better: bool | None = False
    settings: Mapping[str, Any] = {"threshold": 0.5, "weights": {"brightness.bin": "0" * 64}}

    def score(self, image: np.ndarray, prompt: Prompt | None) -> Score:
        value = float(image.mean() / 255)
        finding = Finding("hands", "configuration", "detectability", value, (1, 2, 3, 4), ((1.0, 2.0, 0.5),))
        return Score("scored", value, value < 0.5, None, (finding,), {"mean": value})


class Returns:
    """A scorer that answers every image with the same score, or raises the same error."""

    version, about = "1", "constant"
    role: Role = "quality"
    higher_is_better: bool | None = None
    settings: Mapping[str, Any] = {}

    def __init__(self, name: str, answer: Score | Exception) -> None:
        self.name, self.answer = name, answer

    def score(self, image: np.ndarray, prompt: Prompt | None) -> Score:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Painted:
    """Reads the verdict from the picture: red is an error, green sound, black cannot be judged."""

    name, about = "hands", "red"
    role: Role = "anatomy"
    higher_is_better: bool | None = False

    def __init__(self, version: str = "1", threshold: float = 0.5) -> None:
        self.version = version
        self.settings: Mapping[str, Any] = {"threshold": threshold}

    def score(self, image: np.ndarray, prompt: Prompt | None) -> Score:
        red, green, _ = image.reshape(-1, 3).mean(0) / 255
        if red + green < 0.1:
            return Score("unknown", reason="too dark")
        found = (Finding("hands", "extra", "extra_digit", float(red), (2, 2, 12, 12)),) if red > 0.5 else ()
        return Score("scored", float(red), bool(red > 0.5), findings=found)


class Blueness:
    """A quality score."""

    name, version, about = "iqa", "1", "blue"
    role: Role = "quality"
    higher_is_better: bool | None = True
    settings: Mapping[str, Any] = {}

    def score(self, image: np.ndarray, prompt: Prompt | None) -> Score:
        return Score("scored", float(image[..., 2].mean() / 255))


COLOURS = {"e": (250, 0, 100), "s": (0, 250, 100), "u": (0, 0, 100)}


def folder_manifest(scorers: Mapping[str, Any], images: Path, name: str = "pictures") -> Manifest:
    """What run.json begins with for a folder of images."""
    return Manifest(
        command="score",
        name=name,
        request=ScoreSpec(images=images, scorers=()),
        images=ImagesFacts(folder=images.name, sha256="0", prompts=None),
        scorers=describe(scorers),
        image_root=str(images),
        **provenance.made_with(),
    )


def coloured_run(
    folder: Path,
    verdicts: dict[str, str],
    *,
    name: str = "a model",
    first_seed: int = 0,
    scorers: dict[str, Any] | None = None,
    text: str = "a hand",
    steps: int = 10,
) -> Run:
    """A run whose prompts have the verdicts of a word: "esu" is an error, a sound and an unjudged image."""
    scorers = scorers or {"hands": Painted(), "iqa": Blueness()}
    categories: tuple[Category, ...] = ("basic_anatomy", "full_body")
    samples = [
        Sample(
            f"{prompt}/{first_seed + i}.png",
            Prompt(id=prompt, text=f"{text} {prompt}", category=categories[number % 2]),
            first_seed + i,
        )
        for number, (prompt, word) in enumerate(verdicts.items())
        for i in range(len(word))
    ]
    rng = np.random.default_rng(list(name.encode()))
    seeds = max(map(len, verdicts.values()))
    manifest = manifest_of(scorers, {"steps": steps}, name=name, seeds=seeds, first_seed=first_seed)
    with open_run(folder, manifest) as run:
        for sample in samples:
            assert sample.prompt is not None and sample.seed is not None
            word = verdicts[sample.prompt.id]
            colour = np.array(COLOURS[word[sample.seed - first_seed]]) + rng.integers(0, 5, 3)
            run.save_image(sample.image, Image.new("RGB", (16, 16), tuple(int(c) for c in colour)))
        return evaluate(run, samples, scorers)


RECORDS = ("records.jsonl", "records.parquet", "records.csv")


def files_at(address: str) -> dict[str, bytes]:
    """What a store has below an address, by path; leases left out."""
    import fsspec

    system, root = fsspec.core.url_to_fs(address)
    found = {name[len(root) + 1 :]: system.cat_file(name) for name in system.find(root)}
    return {name: content for name, content in found.items() if not name.startswith(".lease")}


def assert_stored(address: str, here: Path) -> None:
    """A store has the records and pictures of a run of this machine, byte for byte, and no others."""
    there = files_at(address)
    for name in RECORDS:
        assert there[name] == (here / name).read_bytes(), name
    images = {path.relative_to(here).as_posix(): path.read_bytes() for path in (here / "images").rglob("*.png")}
    assert images
    assert {name: content for name, content in there.items() if name.startswith("images/")} == images
