"""What a step and a picture cost on one core of this machine, and so how long the experiment takes.

Seconds are of the processor, so that what else runs on the machine hardly counts.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from measures import embedded, hands_in
from pairs import Judge, Kind, make_pairs
from plan import ABLATIONS, FRONT, METHODS, PROMPTS, SELECTION, Method, Plan, Sizes

from hafbench.files import write_whole
from hafbench.suites import load_suite

PAIRS, STEPS, PICTURES = 16, (2, 6), 20


@dataclass(frozen=True)
class Cost:
    """Core seconds of one of each.

    `one_draw` and `two_draws` are steps of 8 pairs; `draw`, `judge`, `clip`, `iqa` and `drift` are of a picture,
    `rendered` and `redrawn` of a pair.
    """

    one_draw: float
    two_draws: float
    draw: float
    judge: float
    clip: float
    iqa: float
    drift: float
    rendered: float
    redrawn: float


def measured(plan: Plan) -> Cost:
    """The costs in OUT/cost.json, measured first where they are not there."""
    path = plan.out / "cost.json"
    if not path.exists():
        made = measure(plan)
        write_whole(path, json.dumps(asdict(made), indent=1) + "\n")
    return Cost(**json.loads(path.read_text()))


def spent(work: Callable[[], object], count: int = 1) -> float:
    """Core seconds for each of `count`."""
    began = time.process_time()
    work()
    return (time.process_time() - began) / count


def measure(plan: Plan) -> Cost:
    """Do a little of everything, in a folder of its own that is deleted."""
    import torch

    from hafbench.generators.diffusion import load
    from hafbench.scorers import load_scorer
    from hafbench.specs import RunSpec

    torch.set_num_threads(1)
    own = Plan(plan.out / "cost", plan.model, Sizes(steps=STEPS[1], pairs=PAIRS))
    shutil.rmtree(own.out, ignore_errors=True)

    def pairs(kind: Kind) -> float:
        return spent(lambda: make_pairs(kind, own.out / "pairs", own.name, Judge(), PAIRS, 1), PAIRS)

    rendered = pairs("rendered")
    prompts = load_suite(str(PROMPTS / "selection.jsonl")).prompts[:PICTURES]
    spec = RunSpec.model_validate(
        {"model": plan.name, "scorers": {"digits": {}, "clip": {"model": "mannequin"}, "iqa": {}}}
    ).resolved()
    generator = load(spec.model, "cpu")
    shown: list[np.ndarray] = []

    def draw() -> None:
        for first in range(0, PICTURES, 10):
            made = generator.generate(prompts[first : first + 10], range(first, first + 10))
            shown.extend(np.asarray(image) for image in made)

    seconds = {"draw": spent(draw, PICTURES)}
    for name, one in zip(("judge", "clip", "iqa"), spec.scorers or (), strict=True):
        scorer = load_scorer(one.name, one.options, "cpu")
        scorer.score(shown[0], prompts[0])
        seconds[name] = spent(lambda scorer=scorer: [*map(scorer.score, shown[1:], prompts[1:])], PICTURES - 1)
    hands_in(shown[0])
    embedded(shown[:1])
    seconds["drift"] = spent(lambda: ([*map(hands_in, shown)], embedded([*shown, *shown])), PICTURES)
    redrawn = pairs("redrawn")
    steps = {name: step_cost(own, name) for name in ("asap", "ours")}
    shutil.rmtree(own.out)
    return Cost(steps["asap"], steps["ours"], **seconds, rendered=rendered, redrawn=redrawn)


def step_cost(plan: Plan, method: str) -> float:
    """Of one step of a method: the difference of a longer and a shorter fit, which load the same."""
    from asap_train.training.trainer import train

    taken = []
    for steps in (STEPS[0], *STEPS):  # the first fills the cache
        name = f"{method}-{len(taken)}"
        # Other kinds cost no more, since all images are of one size; of checkpoints each fit has only its last.
        changes = {"pairs": plan.pairs("rendered"), "max_train_steps": steps, "checkpointing_steps": STEPS[1]}
        config = plan.config("", method, 0, (), name).model_copy(update=changes)
        taken.append(spent(lambda config=config: train(config)))
    return (taken[2] - taken[1]) / (STEPS[1] - STEPS[0])


def table(plan: Plan, cost: Cost, methods: Sequence[str] = tuple(METHODS)) -> str:
    """Core hours of every part of the experiment, as a table."""
    sizes, rows = plan.sizes, []

    def add(what: str, count: int, seconds: float) -> None:
        rows.append((what, count, seconds, count * seconds / 3600))

    def picture(*scorers: str) -> float:
        return cost.draw + sum(getattr(cost, name) for name in scorers)

    def steps(kind: dict[str, Method], fits: int) -> None:
        for draws, seconds in ((1, cost.one_draw), (2, cost.two_draws)):
            own = [one for one in kind.values() if draws_of(one) == draws]
            if own:
                add(f"steps of {len(own)} methods, {draws} draws", len(own) * fits * sizes.steps, seconds)

    asked = {name: METHODS[name] for name in methods}
    add("rendered pairs", sizes.pairs, cost.rendered)
    add("redrawn pairs", sizes.pairs, cost.redrawn)
    tries = len(next(iter(asked.values())).tried)
    steps(asked, tries)
    shown = plan.tuning_spec().seeds * plan.prompts(SELECTION)
    add("selection pictures", (1 + len(asked) * tries) * shown, picture("judge", "clip"))
    steps(asked, sizes.seeds)
    each = plan.each(sizes.images) * sizes.seeds * plan.prompts(plan.held_out)
    add("held-out pictures", (1 + len(asked)) * each, picture("judge", "clip", "iqa", "drift"))
    points = len(FRONT) * plan.front_spec(0).seeds * sizes.seeds * plan.prompts(plan.held_out)
    add("pictures of the fronts", len(asked) * points, picture("judge", "drift"))
    steps(dict(ABLATIONS), sizes.seeds)
    add("pictures of ablations", len(ABLATIONS) * each, picture("judge", "clip", "iqa", "drift"))
    lines = [f"{'':34} {'number':>9} {'core s':>8} {'core h':>8}"]
    lines += [f"{what:34} {count:9,} {seconds:8.3f} {hours:8.1f}" for what, count, seconds, hours in rows]
    lines += [f"{'all':34} {'':9} {'':8} {sum(row[3] for row in rows):8.1f}"]
    return "\n".join(lines)


def draws_of(method: Method) -> int:
    """Noises a pair; the last setting of a name counts."""
    told = [text for text in method.settings if text.startswith("noise_draws=")]
    return int(told[-1].partition("=")[2]) if told else 1
