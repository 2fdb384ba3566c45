"""Intervals of rates by labels, and what a choice of images saves: `python -m benchmarks.labels [--simulations 2000]`.

Each simulation draws its own true rates and a run of N images. An image is an error where a normal latent passes a
threshold; the prompt makes up 30 % of its variance. A scorer sees the latent through noise: `sees` is their
correlation, and `sure` what its log-odds are multiplied with (1 is calibrated). Prints the tables of
docs/studies/labels.md.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm

from hafbench.labelling.drawn import reached, weights_of
from hafbench.labelling.sampling import doubt, draw, inclusion
from hafbench.labelling.store import Entry
from hafbench.statistics import LabelledImages, labelled_difference, labelled_rate

PROMPT = 0.3


@dataclass(frozen=True)
class World:
    """A run and its scorer."""

    name: str
    sees: float
    sure: float = 1.0
    images: int = 1000
    seeds: int = 4
    rates: tuple[float, float] = (0.1, 0.6)


WORLDS = (
    World("good (AUROC .94)", 0.9),
    World("good, one image a prompt", 0.9, seeds=1),
    World("good, rare errors (2 to 10 %)", 0.9, rates=(0.02, 0.1)),
    World("good, overconfident (log-odds x 4)", 0.9, sure=4),
    World("weak (AUROC .75)", 0.55),
    World("none (AUROC .50)", 0.0),
    World("very good (AUROC .99)", 0.98),
)
TWICE = "active, then active again"
"""A third of the labels by one active plan, the others by a second one, which is not labelled to its end."""
DESIGNS = ("random, labels alone", "random", "active", TWICE)
NUMBERS = (20, 100, 200, 300, 600)


@dataclass(frozen=True)
class Model:
    """One model's images: the truth, and the scorer's chance of an error."""

    bad: np.ndarray
    chances: np.ndarray


def model(rng: np.random.Generator, world: World, rate: float, common: np.ndarray) -> Model:
    """A model with this true rate; `common` (n,) is the part of the latents that its prompts give."""
    latent = common + np.sqrt(1 - PROMPT) * rng.normal(size=world.images)
    cut = norm.ppf(rate)
    seen = world.sees * latent + np.sqrt(1 - world.sees**2) * rng.normal(size=world.images)
    chance = norm.cdf((cut - world.sees * seen) / np.sqrt(1 - world.sees**2))
    chance = expit(world.sure * logit(np.clip(chance, 1e-9, 1 - 1e-9)))
    return Model(latent < cut, chance)


def chosen(rng: np.random.Generator, design: str, chances: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether each unit (n,) is labelled, and with what chance up to a factor; `chances` (n, images of a unit)."""
    weights = doubt(chances.tolist()) if design in ("active", TWICE) else np.ones(len(chances))
    names = [str(place) for place in range(len(chances))]
    labelled: set[str] = set()
    samples = []
    for wanted in (number // 3, number) if design == TWICE else (number,):
        probabilities = inclusion(weights, wanted)
        order = rng.permutation(draw(probabilities, rng))
        entries = [Entry(names[place], turn, float(probabilities[place])) for turn, place in enumerate(order)]
        # A session passes over what has a label.
        own = {one.item for one in [one for one in entries if one.item not in labelled][: number - len(labelled)]}
        labelled |= own
        samples.append(reached(entries, own, labelled))
    part = weights_of(names, np.ones(len(names)), samples)
    return part > 0, 1 / np.where(part > 0, part, 1.0)


def images_of(one: Model, design: str, drawn: tuple[np.ndarray, np.ndarray], prompts: np.ndarray) -> LabelledImages:
    """What the statistics are given."""
    verdicts = None if design == "random, labels alone" else (one.chances >= 0.5).astype(float)
    return LabelledImages(np.where(drawn[0], one.bad, np.nan), prompts, verdicts, drawn[1])


def rate(world: World, design: str, number: int, seed: int) -> tuple[bool, float, float]:
    """Whether the interval holds the true rate, its width, and the error of the estimate."""
    rng = np.random.default_rng([26, WORLDS.index(world), seed])
    truth = rng.uniform(*world.rates)
    prompts = np.arange(world.images) // world.seeds
    common = np.sqrt(PROMPT) * rng.normal(size=prompts[-1] + 1)[prompts]
    one = model(rng, world, truth, common)
    drawn = chosen(rng, design, one.chances[:, None], number)
    found = labelled_rate(images_of(one, design, drawn, prompts))
    assert found.low is not None and found.high is not None and found.estimate is not None
    return found.low <= truth <= found.high, found.high - found.low, found.estimate - truth


def difference(world: World, design: str, number: int, seed: int) -> tuple[bool, float, float]:
    """The same for two models on the same prompts, of which pairs of images are labelled."""
    rng = np.random.default_rng([27, WORLDS.index(world), seed])
    rates = rng.uniform(*world.rates, 2)
    prompts = np.arange(world.images) // world.seeds
    common = np.sqrt(PROMPT) * rng.normal(size=prompts[-1] + 1)[prompts]
    models = [model(rng, world, truth, common) for truth in rates]
    drawn = chosen(rng, design, np.stack([one.chances for one in models], axis=1), number // 2)
    sides = [images_of(one, design, drawn, prompts) for one in models]
    found = labelled_difference(*sides)
    if found.low is None or found.high is None or found.estimate is None:
        return False, 2.0, 0.0
    truth = rates[1] - rates[0]
    return found.low <= truth <= found.high, found.high - found.low, found.estimate - truth


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="worlds whose name holds this")
    parser.add_argument("--choice", default="", help="choices whose name holds this, besides the first")
    asked = parser.parse_args()
    with get_context("spawn").Pool(asked.workers) as pool:
        for quantity in (rate, difference):
            print(
                f"\n| {quantity.__name__}: scorer | choice | "
                + " | ".join(f"{n} labels" for n in NUMBERS)
                + " | saved at 300 |"
            )
            print("|---|---|" + "---|" * (len(NUMBERS) + 1))
            for world in WORLDS:
                if asked.only not in world.name:
                    continue
                widths: dict[str, list[float]] = {}
                for design in (DESIGNS[0], *(one for one in DESIGNS[1:] if asked.choice in one)):
                    cells = []
                    for number in NUMBERS:
                        job = partial(quantity, world, design, number)
                        held, width, off = np.array(pool.map(job, range(asked.simulations), chunksize=50)).T
                        widths.setdefault(design, []).append(float(width.mean()))
                        cells.append(
                            f"{100 * held.mean():.1f} %, ±{50 * width.mean():.1f}, bias {100 * off.mean():+.2f}"
                        )
                    # As many labels of the first choice give an interval as narrow as 300 of this one.
                    same = np.interp(-widths[design][NUMBERS.index(300)], -np.array(widths[DESIGNS[0]]), NUMBERS)
                    saved = "–" if design == DESIGNS[0] else f"{'> ' if same >= NUMBERS[-1] else ''}{same - 300:.0f}"
                    print(f"| {world.name} | {design} | " + " | ".join(cells) + f" | {saved} |", flush=True)


if __name__ == "__main__":
    main()
