"""What one asks of hafbench, as functions; the commands call them. Imported lazily by `hafbench` itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from hafbench import provenance
from hafbench.cards import CalibrationCard, attach_cards, read_card, read_cards, write_card
from hafbench.engines import start
from hafbench.errors import HafError, Unavailable
from hafbench.evaluate import describe, evaluate, plan, spread
from hafbench.files import disk_errors, slug
from hafbench.images import sha256_of
from hafbench.manifest import ImagesFacts, Manifest, SuiteFacts
from hafbench.mirrors import check_out, writing
from hafbench.notes import notes
from hafbench.progress import SILENT, Progress
from hafbench.records import Sample
from hafbench.runs import LAYOUT, Run, open_run, read_run
from hafbench.scorers import SCORERS
from hafbench.scorers.judge import JudgeScorer
from hafbench.scorers.loading import load_scorers
from hafbench.sources import (
    File,
    ImageSource,
    Place,
    SourceImage,
    Span,
    category_of,
    identity_of,
    open_source,
    parts_of,
    read_images,
)
from hafbench.sources.unchanged import check_unchanged
from hafbench.specs import RunSpec, ScorerSpec, ScoreSpec
from hafbench.statistics import Corrected
from hafbench.stores import address_of, check_local, names_apart
from hafbench.suites import Prompt, Suite, load_suite
from hafbench.types import Described
from hafbench.worlds import PHOTOGRAPHS

if TYPE_CHECKING:
    from hafbench.comparison import Comparison
    from hafbench.judges.estimate import Estimate
    from hafbench.judges.options import PairOptions
    from hafbench.labelled import Labelled
    from hafbench.labelling.estimates import PeopleFigures
    from hafbench.types import Generator


def run(
    spec: RunSpec,
    *,
    out: str | Path | None = None,
    resume: bool = True,
    cards: Sequence[str | Path] = (),
    generator: Generator | None = None,
    progress: Progress = SILENT,
) -> Run:
    """Generate a suite's images with a model, score them, write the report; returns the finished run.

    `out` is the run folder, here or at an address such as s3://, by default one below runs/. A run that was stopped is
    resumed there, unless `resume` is False. `cards` are calibration cards of its scorers. `generator` is the model of
    `spec`, where it is loaded already.
    Raises HafError for what cannot be asked.
    """
    check_out(out)
    given = [Path(path) for path in cards]
    for path in given:
        read_card(path)  # a file that is not a card is better refused before models are loaded than after
    spec = spec.resolved()
    suite, samples = _planned(spec)
    with start(spec, generator) as started:
        made_by = started.generator
        assert made_by is not None  # noqa: S101 (the engine has loaded spec.model)
        manifest = Manifest(
            command="run",
            name=made_by.name,
            request=spec,
            suite=SuiteFacts(
                name=suite.name, sha256=suite.sha256, limit=spec.limit, seeds=spec.seeds, first_seed=spec.first_seed
            ),
            generator=made_by,
            scorers=describe(started.described),
            image_root="images",
            notes=tuple(notes(spec, suite.name)),
            **provenance.made_with(),
        )
        read_cards(given, manifest.scorers)  # before an hour of work rather than after
        folder = out or Path("runs") / slug(_name(made_by.name, suite.name, spec))
        with open_run(folder, manifest, resume) as opened:
            finished = evaluate(
                opened,
                samples,
                started.scorers,
                engine=started.engine,
                batch_size=spec.batch_size or 1,
                workers=started.workers,
                progress=progress,
            )
    report(finished, cards=given)
    return finished


def _planned(spec: RunSpec) -> tuple[Suite, Sequence[Sample]]:
    suite = load_suite(spec.suite or "")
    seeds = range(spec.first_seed, spec.first_seed + spec.seeds)
    return suite, plan(spread(suite.prompts, spec.limit), seeds, spec.image_format)


def _name(generator: str, suite: str, spec: RunSpec) -> str:
    limit = f"_limit{spec.limit}" if spec.limit else ""
    first = f"_from{spec.first_seed}" if spec.first_seed else ""
    form = f"_{spec.image_format}" if spec.image_format != "png" else ""
    return f"{generator}_{suite}_{spec.seeds}{limit}{first}{form}"


def score(
    spec: ScoreSpec,
    *,
    out: str | Path | None = None,
    resume: bool = True,
    cards: Sequence[str | Path] = (),
    progress: Progress = SILENT,
) -> Run:
    """Score images made elsewhere, which are left in place, and write the report; the rest is as in `run`."""
    check_out(out)
    given = [Path(path) for path in cards]
    for path in given:
        read_card(path)
    spec = spec.resolved()
    source = open_source(spec.images)
    folder = out or Path("runs") / slug(f"score_{source.name}")
    if (address_of(folder) or str(Path(folder).resolve())) == source.address:
        raise HafError(f"--out {folder} is the folder of images itself; choose another.")
    images = read_images(source, spec.prompts)
    with start(spec) as started:
        manifest, found = score_manifest(spec, source, images, started.described), identity_of(images)
        read_cards(given, manifest.scorers)
        samples = samples_of(images)
        del images  # which take more memory than what is needed of them
        with open_run(folder, manifest, resume) as opened:
            check_unchanged(opened, samples, found)
            finished = evaluate(
                opened,
                samples,
                started.scorers,
                engine=started.engine,
                workers=started.workers,
                progress=progress,
            )
    report(finished, cards=given)
    return finished


def samples_of(images: Iterable[SourceImage]) -> list[Sample]:
    """Images made elsewhere as what a run scores."""
    return [
        Sample(image.name, image.prompt, image.seed, category_of(PurePosixPath(image.name)), image.place)
        for image in images
    ]


def score_manifest(
    spec: ScoreSpec, source: ImageSource, images: Sequence[SourceImage], scorers: Mapping[str, Described | Unavailable]
) -> Manifest:
    """What run.json begins with for images of a source."""
    found = identity_of(images)
    return Manifest(
        command="score",
        name=source.name,
        request=spec,
        images=ImagesFacts(
            folder=source.name,
            sha256=found.sha256,
            prompts=sha256_of(spec.prompts) if spec.prompts else None,
            kind=source.kind,
            stamp=found.stamp,
            prompted=found.prompted,
        ),
        scorers=describe(scorers),
        image_root=source.address,
        **provenance.made_with(),
    )


def score_subfolders(
    spec: ScoreSpec,
    *,
    out: str | Path | None = None,
    resume: bool = True,
    cards: Sequence[str | Path] = (),
    progress: Progress = SILENT,
) -> list[Run]:
    """Score each folder right below the folder of images as a run of its own, such as the images of one model each.

    The runs are OUT/NAME, by default runs/score_FOLDER_NAME, and are called NAME. A file of prompts names images below
    the subfolder. Raises HafError for images that lie in no subfolder, and for two subfolders whose runs would be one;
    the rest is as in `score`.
    """
    found: dict[Path, str] = {}
    for part in parts_of(spec.images):
        above, name = PurePosixPath(part).parent.name, PurePosixPath(part).name
        folder = Path(out) / slug(name) if out else Path("runs") / slug(f"score_{above}_{name}")
        if folder in found:
            raise HafError(f"{found[folder]} and {part} would both be the run {folder}; rename one of them.")
        found[folder] = part
    return [
        score(spec.model_copy(update={"images": part}), out=folder, resume=resume, cards=cards, progress=progress)
        for folder, part in found.items()
    ]


def estimate(spec: RunSpec | ScoreSpec, *, out: str | Path | None = None, subfolders: bool = False) -> Estimate:
    """How many questions the scorer `judge` would ask for `run` or `score`; nothing is made, and nothing is asked.

    With `subfolders` it is of `score_subfolders`. Images of a run that `out` holds already are looked at. Raises
    HafError if `judge` is not among the scorers.
    """
    from hafbench.judges.estimate import estimate as estimated

    resolved = spec.resolved()
    judges = [one for one in resolved.scorers or () if one.name == "judge"]
    if not judges:
        raise HafError("A dry run counts the questions of the scorer judge; name it: --scorers judge.")
    scorer = load_scorers(judges, spec.device, ["judge"])["judge"]
    assert isinstance(scorer, JudgeScorer)  # noqa: S101 (a required scorer that is unavailable raises)
    if isinstance(resolved, RunSpec):
        held = _held(out)
        images: list[tuple[Place | None, Prompt | None]] = [
            (held(sample.image), sample.prompt) for sample in _planned(resolved)[1]
        ]
    else:
        parts = parts_of(resolved.images) if subfolders else [resolved.images]
        found = (read_images(open_source(part), resolved.prompts) for part in parts)
        images = [(one.place, one.prompt) for part in found for one in part]
    try:
        return estimated(scorer, images)
    finally:
        scorer.stop()


def _held(out: str | Path | None) -> Callable[[str], Place | None]:
    """Where an image is that a run folder holds already."""
    address = address_of(out or "-")
    if address is None:
        root = Path(out or "-") / "images"
        return lambda image: File(root, image) if (root / image).exists() else None
    there = names_apart(address, LAYOUT)
    return lambda image: Span(f"{address}/{LAYOUT.apart}/{image}") if image in there else None


def report(run: Run | str | Path, *, cards: Sequence[str | Path] = (), labels: Sequence[str | Path] = ()) -> Path:
    """Write a finished run's report, with its calibration cards and those given, and return the page's path.

    `labels` are stores of people's labels (`hafbench label`), whose rates are then on the page, too. Beside the page
    RUN/report/index.html are report.md, plots, and the headline figures as summary.json. Of a run in a store the path
    is that of a copy on this machine, which was uploaded.
    """
    from hafbench.reports import build_report

    with writing(run.address if isinstance(run, Run) else run, LAYOUT) as (folder, _):
        finished = run if isinstance(run, Run) and run.folder == folder else read_run(folder)
        attach_cards(finished, [Path(path) for path in cards])
        return build_report(finished, _people(finished, [Path(path) for path in labels]))


def _people(run: Run, labels: Sequence[Path]) -> PeopleFigures | None:
    if not labels:
        return None
    from hafbench.labelling.estimates import people_figures

    return people_figures(run, labels)


def compare(
    runs: Sequence[Run | str | Path],
    *,
    baseline: int = 0,
    margins: Mapping[str, float] | None = None,
    detect: float = 0.02,
    judges: PairOptions | None = None,
    labels: Sequence[str | Path] = (),
    device: str = "auto",
    out: str | Path | None = None,
    progress: Progress = SILENT,
) -> Comparison:
    """Compare runs with the one at place `baseline`, on the prompts, seeds and scorers that they share; write the page.

    `margins` are how far a quality score may move and count as kept, `detect` is the difference of error rates to plan
    the next run for. `judges` are asked about every pair, in both orders, on `device` where they run here. `labels` are
    stores of people's labels. The page is `out`/index.html, by default below runs/. Raises HafError for runs that share
    nothing, RunStopped.
    """
    from hafbench.comparison import compare_runs
    from hafbench.reports.comparison import build_comparison

    if len(runs) < 2:
        raise HafError("Give at least two run folders to compare.")
    if out is not None:
        check_local(Path(out), "comparison")
    read = [one if isinstance(one, Run) else read_run(one) for one in runs]
    comparison = compare_runs(read, baseline, margins, detect)
    if judges is not None:
        comparison = _judged(comparison, judges, device, progress)
    if labels:
        from hafbench.labelling.estimates import compare_labels

        comparison = replace(comparison, people=compare_labels(comparison, [Path(path) for path in labels]))
    names = [read[baseline], *(one for index, one in enumerate(read) if index != baseline)]
    folder = Path(out or Path("runs") / slug("compare_" + "_".join(one.folder.name for one in names)))
    return replace(comparison, page=build_comparison(comparison, folder))


def _judged(comparison: Comparison, judges: PairOptions, device: str, progress: Progress) -> Comparison:
    from hafbench.comparison.judged import judge_comparison
    from hafbench.judges.options import load_askers

    askers, _ = load_askers(judges, ("pair",), device)
    try:
        return judge_comparison(comparison, askers, judges.concurrency, progress)
    finally:
        for asker in askers:
            asker.stop()


def _stored(store: Path, run: Run | None) -> list[Labelled]:
    from hafbench.labelling.exchange import labels_for_calibration
    from hafbench.labelling.store import LabelStore

    with closing(LabelStore(store, must_exist=True)) as opened:
        return labels_for_calibration(opened, run)


@dataclass(frozen=True)
class Calibrated:
    """A calibration card and its file; `rate` is the true error rate of a run, by labels and verdicts together."""

    card: CalibrationCard
    path: Path
    rate: Corrected | None = None


def calibrate(
    labels: str | Path | None,
    scorer: ScorerSpec | str,
    *,
    store: str | Path | None = None,
    truth: str | None = None,
    views: Sequence[str] = (),
    images: str | Path | None = None,
    run: str | Path | None = None,
    false_alarms: Sequence[float] = (),
    made_on: str | None = None,
    limit: int | None = None,
    seed: int | None = None,
    device: str = "auto",
    out: str | Path | None = None,
    progress: Progress = SILENT,
) -> Calibrated:
    """Make a scorer's calibration card from images labelled good or bad, and write it.

    `labels` is a folder or a table (see `hafbench.labelled`), `store` one of people's labels. In their place, `truth`
    names a built-in world, mannequin or people, of which `limit` renders (400) are made, of the set `seed`, in `views`
    if any are given; `labels` may be that word, too. With `run` the scores are those that the run holds. `false_alarms`
    are rates for which the threshold is found. `out` is the card's file, by default cards/SCORER.json. Raises HafError
    for a scorer or labels that cannot be calibrated, and for options that do not go together.
    """
    from hafbench import calibration, labelled, verdicts
    from hafbench.comparison.order import order_shares
    from hafbench.judges.options import JudgeOptions

    spec = ScorerSpec.model_validate(scorer)
    row = SCORERS.get(spec.name)
    if row.role != "anatomy":
        raise HafError(f"{spec.name} is a quality score: only anatomy scorers have verdicts to calibrate.")
    if any(not 0 < rate < 1 for rate in false_alarms):
        raise HafError("--false-alarms takes a rate between 0 and 1, such as 0.05.")
    if labels is not None and truth is None and str(labels) in labelled.WORLDS and not Path(labels).exists():
        labels, truth = None, str(labels)
    if sum(source is not None for source in (labels, store, truth)) != 1:
        raise HafError(
            "Give one of: labels (a folder with good/ and bad/, or a CSV), --labels STORE, --truth mannequin or people."
        )
    if truth is not None and truth not in labelled.WORLDS:
        raise HafError(f"--truth {truth}: the built-in worlds are {', '.join(labelled.WORLDS)}.")
    if truth is not None and row.home not in (None, labelled.WORLDS[truth].home):
        raise HafError(f"{spec.name} judges {row.home}, and the pictures of the world {truth} are none.")
    for option, value in (("--view", views or None), ("--limit", limit), ("--seed", seed)):
        if value is not None and truth is None:
            raise HafError(f"{option} is of a built-in world: it goes with --truth.")
    shown = labelled.views_of(truth, row.regions, views) if truth else ()
    if store and images:
        raise HafError("--labels STORE names its images: leave out --images.")
    if run and (truth or images):
        raise HafError("--run already names the images: leave out --images, and give a CSV of labels.")
    finished, asked = read_run(run) if run else None, None
    if finished:
        found = _stored(Path(store), finished) if store else labelled.read_labels(Path(labels or ""), finished.source)
        judged = verdicts.judged_by_run(found, finished, spec.name)
        facts, said = finished.manifest.scorers[spec.name], f"images of {finished.manifest.name}"
    else:
        home = labelled.WORLDS[truth].home if truth else row.home or PHOTOGRAPHS.home
        loaded = load_scorers([spec.at_home(home)], device, [spec.name])[spec.name]
        assert not isinstance(loaded, HafError)  # noqa: S101 (a required scorer that is unavailable raises)
        if truth:
            first = labelled.WORLD_SEED if seed is None else seed
            listed = []
            count = labelled.RENDERS if limit is None else limit
            progress.start("renders", count)
            for one in labelled.render_world(truth, row.regions, count, first, shown):
                listed.append(one)
                progress.update("renders", len(listed))
            said = f"{labelled.WORLDS[truth].note} (views: {', '.join(shown)}; seeds {first} x 10,000,000 and on)"
        else:
            below = open_source(images, "folder") if images else None
            listed = _stored(Path(store), None) if store else labelled.read_labels(Path(labels or ""), below)
            said = f"images of {Path(store or labels or '').name}"
            if isinstance(loaded, JudgeScorer):
                listed = [one for one in listed if not loaded.is_example(one.read())]
        judged = verdicts.judge(listed, loaded, len(listed), progress)
        facts = describe({spec.name: loaded})[spec.name]
        asked = loaded.asked if isinstance(loaded, JudgeScorer) else None
        del loaded  # a judge on this machine is loaded once more for pairs: not beside the first
    card = calibration.make_card(
        judged,
        spec.name,
        facts,
        made_on=made_on or f"{len(judged)} {said}.",
        run=finished,
        false_alarms=false_alarms or calibration.FALSE_ALARMS,
    )
    path = Path(out or Path("cards") / f"{spec.name}.json")
    with disk_errors(path):
        write_card(card, path)
        if asked is not None and isinstance(spec.options, JudgeOptions):
            order = order_shares(listed, spec.options, asked, device, progress)
            card = card.model_copy(update={"order": order})
            write_card(card, path)
    return Calibrated(card, path, calibration.powered(judged, finished, spec.name) if finished else None)
