"""Make a HAP data set: photos or seeds, one item after another over all cores, through the gates, into the folder."""

from __future__ import annotations

from contextlib import AbstractContextManager
from itertools import count as numbers
from pathlib import Path
from typing import TYPE_CHECKING

from asap_train.data.gates import NearDuplicates
from asap_train.data.sources import photo_source, world_source
from asap_train.data.spec import SynthSpec
from asap_train.data.workers import PairSource, Run, cluster, processes
from asap_train.hap.manifest import Details, HapManifest, SplitRule
from asap_train.hap.write import open_hap
from hafbench.devices import pick_device
from hafbench.mirrors import check_out
from hafbench.processes import cores
from hafbench.progress import SILENT, Progress

if TYPE_CHECKING:
    from asap_train.hap import Rejection
    from asap_train.hap.columns import Row
    from asap_train.hap.write import Hap


def synth(spec: SynthSpec, *, out: str | Path, progress: Progress = SILENT) -> HapManifest:
    """Make the data set that `spec` asks for in the folder `out`, here or in a store, or resume it; returns hap.json.

    It may have fewer pairs than asked for: see its `counts` and `rejections`. Raises HafError for photos, models or
    scorers that are unavailable, and for a folder that holds other files or was started with other settings.
    """
    check_out(out)
    spec = spec.resolved()
    workers = (spec.workers or cores()) if spec.parallel else 1
    device = device_of(spec, workers)
    source = world_source(spec, device) if spec.source else photo_source(spec, device)
    details = Details(licence=spec.licence, about=source.about, weights=source.weights)
    run = cluster(source, spec.engine) if spec.engine.engine == "ray" else processes(source, workers)
    split = SplitRule(seed=spec.seed or 0)
    with open_hap(out, spec.as_request(), facts=source.facts, details=details, split=split) as hap:
        add_pairs(source, hap, spec.count, run, spec.gates.hash_distance, progress)
        return hap.finish()


def device_of(spec: SynthSpec, workers: int) -> str:
    """The torch device of models, LPIPS and scorers; it is the CPU for several processes unless one is named.

    On a GPU each of them would have a copy of its own; those of a cluster have none, whatever this machine has.
    """
    several = workers > 1 or spec.engine.engine == "ray"
    return "cpu" if several and spec.device == "auto" else pick_device(spec.device)


def add_pairs(
    source: PairSource,
    hap: Hap,
    count: int,
    runner: AbstractContextManager[Run],
    distance: int,
    progress: Progress = SILENT,
) -> None:
    """Add pairs until the data set has `count`, or a whole round gave none; `runner` does the work of the items.

    What is there already, from a process before this one, is not made again. An item of which `count` left pairs out
    gives them when the data set grows. Pairs whose perceptual hashes are within `distance` bits are near-duplicates, of
    which the first is kept.
    """
    near = NearDuplicates(distance, hap.fingerprints())
    progress.start("pairs", count, hap.pairs)
    with runner as run:
        for round_ in numbers():
            before, items = hap.pairs, list(source.items(round_))
            todo = [item for item in items if not hap.done(item)]
            for result in run(todo) if before < count else ():
                rows: list[Row] = []
                rejections: list[Rejection] = list(result.rejections)
                begun, whole = hap.begun(result.item), True
                for row in result.rows:
                    if row["id"] in begun:
                        continue
                    verdict = near.judge(row["fingerprint"])
                    if verdict.outcome == "failed":
                        rejections.append((verdict.gate, verdict.reason or ""))
                    elif hap.pairs + len(rows) == count:
                        whole = False  # it is made again when the data set grows
                        break
                    else:
                        near.add(row["fingerprint"])
                        rows.append(row)
                hap.add(result.item, rows, rejections, whole=whole)
                progress.update("pairs", hap.pairs)
                if hap.pairs >= count:
                    break
            if hap.pairs >= count or (hap.pairs == before and len(todo) == len(items)):
                return
