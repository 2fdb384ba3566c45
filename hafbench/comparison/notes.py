"""What a reader must know beside the table of a comparison, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from hafbench.comparison.metrics import Comparison, MetricComparison, Versus
from hafbench.figures import ANATOMY, TOGETHER, counted, number, p_value, percent, points, share
from hafbench.notes import judged_by, left_out
from hafbench.statistics import Rate


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know to read the table, one sentence a line."""
    said = [(versus.label, notes_of(versus, comparison.detect)) for versus in comparison.versus]
    own = [f"{label}: {sentence}" for label, sentences in said for sentence in sentences]
    return [f"Baseline: {comparison.label}.", *own]


def notes_of(versus: Versus, detect: float) -> list[str]:
    """What was compared, how the runs differ, what was judged, whether quality was kept, and what could be found."""
    said = [" ".join([what_is_shared(versus), *versus.shared.remarks])]
    if versus.shared.changes:
        said.append(f"Differs in {'; '.join(versus.shared.changes[:4])}.")
    said += denominator(versus.metrics[0])
    said += special_cases(versus)
    said += filter(None, map(judged_unevenly, versus.metrics))
    said += filter(None, map(kept_within, versus.metrics))
    said += filter(None, [planning(versus, detect)])
    said += judging(versus)
    return said


def denominator(one: MetricComparison) -> list[str]:
    """What all anatomy scorers together are a rate of, and how many images they could not judge."""
    if one.name != ANATOMY:
        return []
    sides = [f"{side.scored} of {side.total}" for side in (one.baseline, one.candidate) if isinstance(side, Rate)]
    return [f"{ANATOMY}: {TOGETHER.about} Judged: {' images of the baseline, '.join(sides)} of the candidate."]


def judging(versus: Versus) -> list[str]:
    """What to know of the judges: which pairs they could not judge, whether they favour a place, whether they agree."""
    scorers = {name: versus.candidate.manifest.scorers[name] for name in versus.shared.scorers}
    said = [*left_out(scorers), *judged_by(scorers)]
    for one in versus.judged:
        if one.unjudged:
            count = sum(number for _, number in one.unjudged)
            said.append(
                f"{one.judge} judged {one.pairs - count} of {counted(one.pairs, 'pair')}: {one.unjudged[0][0]}."
            )
        if one.biased and one.first is not None:
            place = "first" if (one.first.estimate or 0) > 0.5 else "second"
            said.append(
                f"{one.judge} favours the picture that comes {place}: {share(one.first)} of its decisive replies are "
                "for the first. Pairs whose orders disagree count as ties."
            )
    for both in versus.agreements:
        kappa = both.kappa
        if kappa.agree is not None:
            known = "" if kappa.estimate is None else f", Cohen's kappa {kappa.estimate:.2f}"
            interval = "" if kappa.low is None else f" [{kappa.low:.2f}, {kappa.high:.2f}]"
            said.append(f"{listed(both.judges)} agree on {percent(kappa.agree)} of {kappa.n} pairs{known}{interval}.")
    return said


def what_is_shared(versus: Versus) -> str:
    """How many pairs, or images, of how many prompts are compared."""
    shared = versus.shared
    prompts = counted(shared.prompts, "prompt")
    if shared.pairs:
        return f"{counted(shared.pairs, 'pair')} of the same prompt and seed, {prompts}."
    images = f"{counted(shared.images[0], 'image')} of the baseline and {shared.images[1]} of the candidate"
    return f"{images}, compared by prompt; {prompts}."


def special_cases(versus: Versus) -> list[str]:
    """Where two runs do not differ at all, or there is too little to compare."""
    metrics, said = versus.metrics, []
    for role, what in (("anatomy", "verdicts"), ("quality", "values")):
        if names := [one.name for one in metrics if one.role == role and one.identical]:
            said.append(f"All {what} of {listed(names)} are identical.")
    if versus.shared.same_images:
        said.append("All images are identical: the two files of each pair have the same SHA-256.")
    unjudged: dict[str, list[str]] = {}
    for one in metrics:
        if one.difference.estimate is None:
            unjudged.setdefault(_nothing_of(one), []).append(one.name)
    said += [f"{listed(names)} could judge {nothing}." for nothing, names in unjudged.items()]
    if alone := [one.name for one in metrics if one.difference.clusters == 1]:
        said.append(f"{listed(alone)} could be compared on one prompt only: there is no interval and no test.")
    return said


def _nothing_of(one: MetricComparison) -> str:
    lacking = [run for run, own in (("baseline", one.baseline), ("candidate", one.candidate)) if own.estimate is None]
    if not lacking:
        return "both images of no pair"
    return f"no image of the {' and none of the '.join(lacking)}"


def listed(names: Sequence[str]) -> str:
    """Names as in "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def judged_unevenly(one: MetricComparison) -> str | None:
    """What to know where one run's images could be judged more often than the other's, and that may decide."""
    unjudged = one.unjudged
    if unjudged is None or unjudged.one_sided is None or not unjudged.uneven():
        return None
    shares = " and ".join(percent(share) for share in (unjudged.judged.baseline, unjudged.judged.candidate))
    low, high = (points(bound) for bound in unjudged.one_sided)
    return (
        f"{one.name} could judge {shares} of the images: by those that it could judge of only one of the runs, the "
        f"difference may be anything from {low} to {high} points."
    )


def kept_within(one: MetricComparison) -> str | None:
    """Whether a quality score stayed within its margin; nothing where its values are identical or were not compared."""
    test = one.equivalence
    if test is None or one.identical or one.difference.error is None:
        return None
    if not test.margin:
        return f"{one.name} has no margin, since all values of the baseline are alike; --margin {one.name}=X sets one."
    if test.low is None or test.high is None:
        return None
    kept = "stayed" if test.shown else "is not shown to have stayed"
    how = f"two one-sided tests, p {p_value(test.p_value)}"
    if test.p_value is None:
        how = (
            f"all prompts differ alike; for others that do not, 90 % interval {number(test.low)} to {number(test.high)}"
        )
    return f"{one.name} {kept} within ±{number(test.margin)} of the baseline ({how})."


def planning(versus: Versus, detect: float) -> str | None:
    """The smallest difference of rates that such a comparison finds, and what it would take to find `detect`.

    Both with as many candidates, since verdicts are corrected for them. Nothing of quality scores, nor of one and the
    same images, which no number of prompts would tell apart.
    """
    one = versus.metrics[0]
    power = one.power
    if power is None or one.role != "anatomy" or versus.shared.same_images:
        return None
    surely = f"with {100 * power.power:g} % power"
    if power.tests > 1:
        surely += f", corrected by Holm for {power.tests} candidates"
    if power.prompts < power.fewest or power.smallest > 1:
        found = f"{counted(power.prompts, 'prompt')} are too few to find any difference of {one.name} {surely}"
    else:
        found = f"These prompts and seeds find a difference of {one.name} of {in_points(power.smallest, 1)} {surely}"
    seeds, prompts = power.seeds_for(detect), counted(power.prompts_for(detect), "prompt")
    takes = f"{counted(seeds, 'seed')} a prompt or {prompts}" if seeds else f"{prompts}, more seeds alone would not do"
    return f"{found}; {in_points(detect)} would take {takes}."


def in_points(difference: float, digits: int | None = None) -> str:
    """A difference of rates with its unit, such as "2 points" or, with one digit, "2.0 points"."""
    value = 100 * difference
    return f"{value:g} point{'s' if value != 1 else ''}" if digits is None else f"{value:.{digits}f} points"
