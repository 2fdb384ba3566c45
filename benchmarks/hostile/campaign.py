"""The sources of cases, and a campaign over them: each special case once, then damage at random in turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from random import Random
from time import monotonic

from benchmarks.hostile import images, prompts, runs, sets
from benchmarks.hostile.cases import FINDINGS, LOG, OUTCOMES, ROOT, Case, Result, run_case, start

AREAS = ("images", "prompt files", "run folders", "entries", "data sets", "weights")
ENTRY = min((ROOT / "leaderboards").glob("*.json"))
RUN = (
    *("run", "--model", "mannequin", "--limit", "4", "--seeds", "2", "--scorers", "digits,limb_count,iqa", "--quiet"),
    *("--set", "model.arguments.num_inference_steps=2"),
)
SYNTH = ("synth", "--source", "mannequin", "--count", "8", "--size", "64", "--workers", "1", "--quiet")


@dataclass(frozen=True)
class Bases:
    """Sound data, made by the commands themselves, that is then damaged."""

    run: Path
    pairs: Path


def make_bases(folder: Path, context: ForkServerContext, areas: Sequence[str] = AREAS) -> Bases:
    """A run of the built-in model and a data set of its pairs, where an area needs them."""
    folder.mkdir(parents=True)
    needed = {"run": ("hafbench", RUN, "run folders"), "pairs": ("asap-train", SYNTH, "data sets")}
    for out, (tool, words, area) in needed.items():
        if area not in areas:
            continue
        process = start(context, tool, (*words, "--out", str(folder / out)), folder)
        process.join()
        if process.exitcode:
            raise RuntimeError((folder / LOG).read_text())
    return Bases(folder / "run", folder / "pairs")


def special_cases(area: str, bases: Bases, rng: Random) -> Iterator[Case]:
    """The cases of an area that are made once."""
    match area:
        case "images":
            yield from images.special(rng)
        case "prompt files":
            yield from prompts.special(rng)
        case "run folders":
            yield from runs.runs(rng, bases.run)
            yield from runs.resumed(rng, bases.run, (*RUN, "--out", "run"), 20)
        case "entries":
            yield from runs.entries(rng, ENTRY)
        case "data sets":
            yield from sets.sets(rng, bases.pairs)
        case "weights":
            yield from sets.weights(rng)


def case_at_random(area: str, bases: Bases, rng: Random) -> Case:
    """A case of an area with damage at random."""
    makers: dict[str, Callable[[], Case]] = {
        "images": lambda: images.at_random(rng),
        "prompt files": lambda: prompts.at_random(rng),
        "run folders": lambda: runs.run_at_random(rng, bases.run),
        "entries": lambda: runs.entry_at_random(rng, ENTRY),
        "data sets": lambda: sets.set_at_random(rng, bases.pairs),
        "weights": lambda: sets.weights_at_random(rng),
    }
    return makers[area]()


def cases(areas: Sequence[str], bases: Bases, count: int, seed: int, special: bool = True) -> Iterator[Case]:
    """The special cases, the areas in turn, then random ones up to `count` in all; the same of a seed."""
    made = 0
    if special:
        sources = [special_cases(area, bases, Random(f"{seed} {area}")) for area in areas]
        while sources and made < count:
            for source in list(sources):
                found = next(source, None)
                if found is None:
                    sources.remove(source)
                else:
                    made += 1
                    yield found
    for number in range(max(0, count - made)):
        area = areas[number % len(areas)]
        yield case_at_random(area, bases, Random(f"{seed} {area} {number}"))


def run_all(
    found: Iterable[Case], folder: Path, context: ForkServerContext, *, workers: int = 2, minutes: float = 1e9
) -> Iterator[Result]:
    """The results, in the cases' order; cases after the time is up are left out."""
    ends = monotonic() + 60 * minutes

    def one(numbered: tuple[int, Case]) -> Result | None:
        number, case = numbered
        return run_case(case, folder / f"{number:05d}", context) if monotonic() < ends else None

    with ThreadPoolExecutor(workers) as pool:
        yield from (result for result in pool.map(one, enumerate(found)) if result is not None)


def table(results: Sequence[Result]) -> str:
    """How many were tried of each area, and what came of them."""
    heads = ("", "tried", "refused with a sentence", "accepted and right", "traceback", "wrong", "hang")
    areas = list(dict.fromkeys(result.area for result in results))
    rows = []
    for area in [*areas, "all"]:
        counts = Counter(result.outcome for result in results if area in (result.area, "all"))
        rows.append([area, str(counts.total()), *(str(counts[outcome]) for outcome in OUTCOMES)])
    text = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return "\n".join([*text, *(f"| {' | '.join(row)} |" for row in rows)])


def findings(results: Iterable[Result]) -> list[str]:
    """A line for each kind of finding, with how often it was found and where the first is kept."""
    alike: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        if result.outcome in FINDINGS:
            kind = result.name.split(":")[-1] if result.outcome == "wrong" else result.said[-160:]
            alike.setdefault((result.outcome, result.area, kind), []).append(result)
    return [
        f"{outcome}, {area}, {len(group)} x: {group[0].name}: {group[0].said[:300]} -> {group[0].kept}"
        for (outcome, area, _), group in alike.items()
    ]
