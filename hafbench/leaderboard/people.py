"""What people's labels say of an entry's images: taken from stores, and whether the rates follow from the letters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hafbench.labelling.estimates import labels_of, people_figures
from hafbench.leaderboard.correction import same
from hafbench.leaderboard.entries import NO_LABEL, UNSURE, Anatomy, Entry, PeopleFacts
from hafbench.leaderboard.ranking import verdicts_of
from hafbench.statistics import LabelledImages, LabelledRate, labelled_rate

if TYPE_CHECKING:
    from hafbench.runs import Run

LETTERS: Mapping[str, float] = {"e": 1.0, "s": 0.0, UNSURE: np.nan, NO_LABEL: np.nan}


def people_facts(
    run: Run, stores: Sequence[Path], verdicts: Mapping[str, str], places: Mapping[str, tuple[str, int]], *, names: bool
) -> dict[str, Any]:
    """The labels as words beside those of the verdicts, and the rates; raters by name only if `names`.

    `places` has by image its prompt and its place in the prompt's word. Raises HafError where no image has a label.
    """
    found, figures = labels_of(run, stores), people_figures(run, stores)
    letters = {prompt: [NO_LABEL] * len(word) for prompt, word in verdicts.items()}
    chances = {prompt: [0.0] * len(word) for prompt, word in verdicts.items()}
    images = zip(found.rows["image"], found.rows["sha256"], found.bad, found.chances, strict=True)
    for image, sha256, bad, chance in images:
        prompt, place = places[str(image)]
        chances[prompt][place] = float(chance)
        if np.isfinite(bad):
            letters[prompt][place] = "e" if bad else "s"
        elif sha256 in found.agreed:
            letters[prompt][place] = UNSURE
    words = {prompt: "".join(own) for prompt, own in letters.items()}
    alike = float(np.ptp(found.chances)) <= 1e-12
    human, powered = rates_of(words, verdicts, None if alike else chances)
    return {
        "raters": [{"name": name if names else None, "answers": count} for name, count in figures.raters.items()],
        "chosen": figures.chosen,
        "labels": words,
        "chances": None if alike else chances,
        "human": _figure(human),
        "powered": _figure(powered),
    }


def _figure(rate: LabelledRate) -> dict[str, Any]:
    return {key: value for key, value in asdict(rate).items() if key != "reason"}


def rates_of(
    words: Mapping[str, str], verdicts: Mapping[str, str], chances: Mapping[str, Sequence[float]] | None
) -> tuple[LabelledRate, LabelledRate]:
    """The rate by labels alone, and with the verdicts of the metric that ranks."""
    prompts = sorted(words)
    labels = np.array([LETTERS[letter] for prompt in prompts for letter in words[prompt]])
    said = verdicts_of({prompt: verdicts[prompt] for prompt in prompts})
    values = np.concatenate([said[prompt] for prompt in prompts])
    keys = np.repeat(prompts, [len(words[prompt]) for prompt in prompts])
    own = None if chances is None else np.array([chance for prompt in prompts for chance in chances[prompt]])
    return (
        labelled_rate(LabelledImages(labels, keys, None, own)),
        labelled_rate(LabelledImages(labels, keys, values, own)),
    )


def wrong_people(entry: Entry) -> Iterator[str]:
    """What of the rates by people does not follow from their labels and the verdicts, in a sentence."""
    people = entry.people
    if people is None:
        return
    ranked = entry.anatomy[entry.ranked_by]
    if problem := _misfit(people, ranked):
        yield problem
        return
    pairs = zip(("human", "powered"), rates_of(people.labels, ranked.verdicts, people.chances), strict=True)
    for name, anew in pairs:
        for field, value in getattr(people, name).model_dump().items():
            if not same(value, getattr(anew, field)):
                yield f"people: {field} of the rate {name} is {value}, but its labels give {getattr(anew, field)}."
                return


def _misfit(people: PeopleFacts, ranked: Anatomy) -> str | None:
    lengths = {prompt: len(word) for prompt, word in ranked.verdicts.items()}
    if {prompt: len(word) for prompt, word in people.labels.items()} != lengths:
        return "people: the labels are of other prompts or numbers of images than the verdicts."
    if people.chances is not None:
        if {prompt: len(own) for prompt, own in people.chances.items()} != lengths:
            return "people: the chances are of other prompts or numbers of images than the verdicts."
        if min(min(own) for own in people.chances.values()) <= 0:
            return "people: an image has no chance of being labelled."
    given = sum(letter != NO_LABEL for word in people.labels.values() for letter in word)
    if given > (answers := sum(rater.answers for rater in people.raters)):
        return f"people: {given} images have a label, but raters gave {answers}."
    return None
