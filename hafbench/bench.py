"""The two things one asks for: run a model on a suite, or score a folder of images. Both end in a run folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench.errors import HafError
from hafbench.evaluate import Progress, describe, evaluate, load_scorers, plan, spread
from hafbench.files import slug
from hafbench.images import sha256_of
from hafbench.records import Sample
from hafbench.runs import Run, open_run
from hafbench.scorers import DEFAULT_SCORERS, ScorerOptions, check_names
from hafbench.suites import load_suite
from hafbench.types import Generator
from hafbench.worlds import notes

if TYPE_CHECKING:
    from hafbench.generators import DiffusionRequest

Begin = Callable[[int, int], Progress]
"""Called once with the number of images in all and of those already done; returns what to call for each image."""


@dataclass(frozen=True)
class BenchOptions:
    """How to score and where to write; the same for a model and for a folder."""

    scorers: tuple[str, ...] = DEFAULT_SCORERS
    require: tuple[str, ...] = ()
    scorer_options: ScorerOptions = field(default_factory=ScorerOptions)
    out: Path | None = None
    resume: bool = True
    batch_size: int = 1


def _silent(total: int, done: int) -> Progress:
    return lambda rows: None


def run_model(
    model: DiffusionRequest,
    suite_name: str,
    seeds: int,
    limit: int | None,
    options: BenchOptions,
    begin: Begin = _silent,
    first_seed: int = 0,
) -> Run:
    """Generate `seeds` images a prompt (seeds `first_seed`, ...), score them, return the finished run."""
    from hafbench.generators import load_generator

    check_names([*options.scorers, *options.require])
    suite = load_suite(suite_name)
    prompts = spread(suite.prompts, limit)
    generator = load_generator(model)
    request = {
        "suite": {"name": suite.name, "sha256": suite.sha256, "limit": limit},
        "seeds": seeds,
        **({"first_seed": first_seed} if first_seed else {}),
        "batch_size": options.batch_size,
        "generator": {"name": generator.name, **generator.settings},
    }
    tag = (
        f"{generator.name}_{suite.name}_{seeds}"
        + (f"_limit{limit}" if limit else "")
        + (f"_from{first_seed}" if first_seed else "")
    )
    out = options.out or Path("runs") / slug(tag)
    samples = plan(prompts, range(first_seed, first_seed + seeds))
    said = notes(model.model, suite.name, options.scorers, options.scorer_options)
    return _bench("run", generator.name, request, samples, out, "images", options, begin, generator, said)


def score_folder(folder: Path, prompts_file: Path | None, options: BenchOptions, begin: Begin = _silent) -> Run:
    """Score images made elsewhere, left in place; `prompts_file` maps them to prompts and seeds."""
    from hafbench.generators import read_folder

    check_names([*options.scorers, *options.require])
    images = read_folder(folder, prompts_file)
    root = folder.resolve()
    out = options.out or Path("runs") / slug(f"score_{root.name}")
    if out.resolve() == root:
        raise HafError(f"--out {out} is the folder of images itself; choose another.")
    # A report below the folder has pictures of its own.
    images = [image for image in images if not image.path.is_relative_to(out.resolve())]
    samples = [Sample(image.path.relative_to(root).as_posix(), image.prompt, image.seed) for image in images]
    request = {
        "images": {"folder": root.name, "sha256": _sha256_of_all(root, samples)},
        "prompts": sha256_of(prompts_file) if prompts_file else None,
    }
    return _bench("score", root.name, request, samples, out, str(root), options, begin, None)


def _bench(
    command: str,
    name: str,
    request: dict[str, Any],
    samples: Sequence[Sample],
    out: Path,
    image_root: str,
    options: BenchOptions,
    begin: Begin,
    generator: Generator | None,
    said: Sequence[str] = (),
) -> Run:
    scorers = load_scorers(options.scorers, options.scorer_options, options.require)
    described = describe(scorers)
    request["scorers"] = {
        name: {key: entry.get(key) for key in ("version", "settings", "weights", "unavailable")}
        for name, entry in described.items()
    }
    details = {"scorers": described, "image_root": image_root, "notes": list(said)}
    with open_run(out, command=command, name=name, request=request, details=details, resume=options.resume) as run:
        progress = begin(len(samples), len(run.finished_images))
        return evaluate(
            run,
            samples,
            scorers,
            image_root=out / image_root,
            generator=generator,
            batch_size=options.batch_size,
            progress=progress,
        )


def _sha256_of_all(root: Path, samples: Sequence[Sample]) -> str:
    """One hash over the names and bytes of all images, so that a resumed run is of the same images."""
    total = hashlib.sha256()
    for sample in samples:
        try:
            digest = sha256_of(root / sample.image)
        except OSError:
            digest = "unreadable"  # its record will say why
        total.update(f"{sample.image}\0{digest}\n".encode())
    return total.hexdigest()
