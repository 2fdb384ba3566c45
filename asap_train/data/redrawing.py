"""Pairs as a model draws them: noise on the latents of both images, the same, and removed by the model.

This is SDEdit (Meng et al. 2022, arXiv:2108.01073) at a small strength: the anatomy, an error or none, stays that of
the image, and everything else looks as the model draws it. Both images of such a pair are near to what the model itself
draws, so that tuning it on them has little else to change than what the two differ in.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from asap_train.data.gates import fingerprint
from asap_train.data.inpainting import GRID
from asap_train.data.similarity import measure_similarity
from asap_train.data.spec import RedrawSpec, Thresholds
from asap_train.degrade.fill import grown
from asap_train.degrade.redraw import Window, paste, resized
from asap_train.hap import Pair, pair_id, to_row
from asap_train.hap.manifest import LAYOUT, HapManifest
from asap_train.hap.read import read_hap, read_pairs
from asap_train.hap.write import open_hap
from hafbench.devices import pick_device
from hafbench.errors import HafError
from hafbench.generators.arguments import default_arguments, resolve_arguments
from hafbench.generators.diffusion import DTYPES, NotFinite, call_facts, for_each, noise_seed, pick_dtype, place
from hafbench.generators.sources import check_reachable, find_source
from hafbench.mirrors import check_out
from hafbench.progress import SILENT, Progress
from hafbench.provenance import without_folders
from hafbench.stores import reading_copy

if TYPE_CHECKING:
    from pathlib import Path

    from hafbench.types import Pixels

OURS = frozenset({"image", "strength", "height", "width"})
REDRAWN = dict.fromkeys(
    (name for name in Thresholds.model_fields if "side" in name), "the images of a pair that passed were redrawn"
)
"""Gates of similarity are of the pair that was redrawn."""


@dataclass(frozen=True)
class Redrawer:
    """A loaded image-to-image pipeline that draws at `size` pixels of the longer side, or at an image's own (None).

    `cell` is the side in pixels of what one latent stands for; `settings`, what shapes its images, as JSON values.
    """

    pipeline: Any
    arguments: Mapping[str, Any]
    size: int | None
    cell: int
    settings: Mapping[str, Any]

    def redraw(self, images: Sequence[Pixels], captions: Sequence[str], seeds: Sequence[int]) -> list[Pixels]:
        """Images of one shape, redrawn in one batch, each with the noise of its seed, which is drawn on the CPU.

        Raises NotFinite for NaN pixels.
        """
        import torch
        from PIL import Image

        height, width = images[0].shape[:2]
        # Where a call has them, its default is the model's own size.
        known = _arguments_of(self.pipeline)
        sides = {name: side for name, side in (("height", height), ("width", width)) if name in known}
        with torch.no_grad():
            made = self.pipeline(
                prompt=list(captions),
                **sides,
                image=[Image.fromarray(image) for image in images],
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                output_type="np",
                **for_each(self.arguments, len(captions)),
            ).images
        drawn = np.asarray(made, dtype=np.float64)
        if not np.isfinite(drawn).all():
            raise NotFinite(f"{self.settings['model']} made NaN pixels; use another --dtype or --device.")
        return list(np.rint(np.clip(drawn, 0, 1) * 255).astype(np.uint8))


def load_redrawer(spec: RedrawSpec) -> Redrawer:
    """The model of `spec`; raises HafError for one that has no image-to-image pipeline, Unavailable for no weights."""
    import torch

    from hafbench.generators.pipelines import load_pipeline

    source = find_source(spec.model)
    if taken := sorted(OURS & spec.arguments.keys()):
        raise HafError(f"arguments.{taken[0]}: asap-train sets this itself.")
    check_reachable(source)
    device = pick_device(spec.device)
    dtype = pick_dtype(spec.dtype, device, source.preset)
    loaded, facts = load_pipeline(source, getattr(torch, DTYPES[dtype]))
    pipeline = _image_to_image(loaded)
    preset = source.preset.call() if source.preset else {}
    usual = {name: value for name, value in preset.items() if name not in OURS}
    arguments = {**resolve_arguments(pipeline, usual, spec.arguments), "strength": spec.strength}
    steps = (default_arguments(pipeline, arguments) | arguments).get("num_inference_steps")
    if isinstance(steps, int) and steps * spec.strength < 1:
        raise HafError(
            f"A strength of {spec.strength:g} of {steps} steps is less than one step: give a larger --strength, or "
            "more steps with --set arguments.num_inference_steps=N."
        )
    place(pipeline, device, spec.offload)
    settings = {
        "model": without_folders(spec.model),
        **facts,
        **call_facts(pipeline, arguments, dtype, device),
    }
    size = spec.size or (source.preset.size if source.preset else None)
    return Redrawer(pipeline, arguments, size, int(pipeline.vae_scale_factor), settings)


def _image_to_image(loaded: Any) -> Any:
    """The pipeline of the same components that begins from a noisy image."""
    import diffusers

    from hafbench.generators.pipelines import variant_of

    refusal = HafError(f"diffusers has no image-to-image pipeline with a strength for {type(loaded).__name__}.")
    try:
        pipeline = variant_of(loaded, diffusers.AutoPipelineForImage2Image)
    except ValueError as error:
        raise refusal from error
    if "strength" not in _arguments_of(pipeline):
        raise refusal
    return pipeline


def _arguments_of(pipeline: Any) -> Collection[str]:
    return inspect.signature(pipeline.__call__).parameters.keys()


def redraw_pairs(spec: RedrawSpec, *, out: str | Path, progress: Progress = SILENT) -> HapManifest:
    """A data set in `out` of the pairs of `spec.pairs` as `spec.model` draws them, or the rest of it; returns hap.json.

    A pair stays in the split that it had. Raises HafError for a data set that cannot be read, a model that cannot be
    loaded or cannot redraw, and for a folder that holds other files or was started with other settings.
    """
    check_out(out)
    there = reading_copy(spec.pairs, LAYOUT)
    source = read_hap(there)
    redrawer = load_redrawer(spec)
    shards = {name: shard.sha256 for name, shard in source.shards.items()}
    model = redrawer.settings["model"]
    told = f"Both images of each pair are as {model} draws them, at strength {spec.strength:g}."
    details = replace(source.details, about=(*source.details.about, told))
    facts = {"redrawer": redrawer.settings, "shards": shards}
    with open_hap(out, spec.as_request(), facts=facts, details=details, split=source.split) as hap:
        progress.start("pairs", source.counts.pairs, hap.pairs)
        waiting = (pair for pair in read_pairs(there) if not hap.done(pair.id))
        for block in blocks(waiting, spec.batch_size):
            seeds = [noise_seed(pair.id, spec.seed) for pair in block]
            for pair, made in zip(block, redrawn(redrawer, block, seeds), strict=True):
                hap.add(pair.id, [to_row(made)])
            progress.update("pairs", hap.pairs)
        return hap.finish()


def blocks(pairs: Iterator[Pair], most: int) -> Iterator[list[Pair]]:
    """The pairs in their order, up to `most` neighbours of one size at once."""
    for _, alike in groupby(pairs, key=lambda pair: pair.mask.shape):
        while block := list(islice(alike, most)):
            yield block


def redrawn(redrawer: Redrawer, pairs: Sequence[Pair], seeds: Sequence[int]) -> list[Pair]:
    """Pairs of one size, redrawn in two batches; the images of a pair have the same noise, by its seed.

    M grows by half a cell, over which the autoencoder spreads what differs; outside of it the loser is the winner, and
    over that rim it goes over into it.
    """
    sized = [_sized(pair, redrawer.size) for pair in pairs]
    captions = [pair.caption for pair in pairs]
    winners = redrawer.redraw([pair.winner for pair in sized], captions, seeds)
    losers = redrawer.redraw([pair.loser for pair in sized], captions, seeds)
    return [_made(redrawer, *parts) for parts in zip(sized, winners, losers, seeds, strict=True)]


def _made(redrawer: Redrawer, pair: Pair, winner: Pixels, drawn: Pixels, seed: int) -> Pair:
    height, width = pair.mask.shape
    rim = max(1, redrawer.cell // 2)
    mask = grown(pair.mask, rim)
    loser = paste(winner, drawn, mask, Window(0, 0, width, height, (width, height)), seam=rim)
    made = {"model": redrawer.settings["model"], "strength": redrawer.arguments["strength"], "seed": seed}
    return replace(
        pair,
        id=pair_id(winner, loser, mask),
        winner=winner,
        loser=loser,
        mask=mask,
        similarity=measure_similarity(winner, loser, mask),
        fingerprint=fingerprint(winner, loser, mask),
        skipped={**REDRAWN, **pair.skipped},
        settings={**pair.settings, "redrawn": made},
        split=None,
    )


def _sized(pair: Pair, size: int | None) -> Pair:
    """The pair at `size` pixels of its longer side, or at its own, with sides that are multiples of GRID."""
    height, width = pair.mask.shape
    scale = (size or max(height, width)) / max(height, width)
    across, down = (max(GRID, round(side * scale / GRID) * GRID) for side in (width, height))
    sides = across, down
    if sides == (width, height):
        return pair
    winner, loser = resized(pair.winner, sides), resized(pair.loser, sides)
    # Whatever a pixel of the new grid touches is in M.
    share = cv2.resize(
        pair.mask.astype(np.float32), sides, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    return replace(pair, winner=winner, loser=loser, mask=np.asarray(share > 0))
