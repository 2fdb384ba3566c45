"""The card of a tuned model: README.md beside the weights, with the YAML that a hub reads and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from asap_train.choose import verdict_of
from asap_train.page import render_text
from asap_train.reporting.fit_page import settings_text, shown_model
from asap_train.training.checkpoints import PIPELINE
from hafbench.comparison.tables import signed
from hafbench.errors import HafError
from hafbench.figures import number, p_value, percent, points
from hafbench.files import write_whole
from hafbench.generators.lora import FOLDER_FILE
from hafbench.generators.sources import HUB_ID, find_source
from hafbench.notes import counted_together, judged_by

if TYPE_CHECKING:
    from asap_train.choose import Figure, Scores
    from asap_train.training.config import FitConfig
    from hafbench.generators.sources import Source
    from hafbench.runs import Run

LICENCES: Mapping[str, Mapping[str, str]] = {
    "Apache-2.0": {"license": "apache-2.0"},
    "CreativeML OpenRAIL-M": {"license": "creativeml-openrail-m"},
    "CreativeML OpenRAIL++-M": {"license": "openrail++"},
    "FLUX non-commercial": {"license": "other", "license_name": "flux-1-dev-non-commercial-license"},
    "Stability AI Community": {"license": "other", "license_name": "stabilityai-ai-community"},
}
"""What the hub calls the licences of hafbench's presets; a tuned model is under its base's."""


def write_card(config: FitConfig, scores: Scores | None, base: Run | None = None) -> None:
    """Write OUT/README.md; without scores it says that nothing was measured."""
    source = find_source(config.model)
    licence = source.preset.licence if source.preset else None
    lora, scorers = config.lora is not None, base.manifest.scorers if base else {}
    text = render_text(
        "model_card.md",
        front=_front_matter(config, scores, source),
        title=config.out.resolve().name,
        config=config,
        base_name=source.hub_id or source.name,
        built_in=source.preset.built_in if source.preset else None,
        hub_id=source.hub_id,
        preset=f"{source.preset.name}=" if source.preset else "",
        lora=lora,
        file=FOLDER_FILE if lora else PIPELINE,
        scores=scores,
        verdict=verdict_of(scores.choice.step, scores.prompts, scores.reported) if scores else None,
        rows=[written(figure) for figure in scores.reported] if scores else [],
        notes=[*base.manifest.notes, *counted_together(scorers), *judged_by(scorers)] if base else (),
        data=_data(config),
        licence=licence,
        model=shown_model(config.model),
        settings=settings_text(config),
    )
    write_whole(config.out / "README.md", text)


def _front_matter(config: FitConfig, scores: Scores | None, source: Source) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    hub_id = source.hub_id if source.hub_id and HUB_ID.fullmatch(source.hub_id) else None
    relation = {"base_model_relation": "adapter" if config.lora else "finetune"} if hub_id else {}
    results = [
        EvalResult(
            task_type="text-to-image",
            dataset_type="hafbench",
            dataset_name=f"HAF-Bench {scores.suite}, held-out prompts",
            metric_type="aer" if figure.role == "anatomy" else figure.metric,
            metric_name=f"{figure.metric} (base {_plain(figure.base)})",
            metric_value=_plain(figure.checkpoint),
        )
        for scores in ([scores] if scores else [])
        for figure in scores.reported
        if figure.checkpoint is not None
    ]
    data = ModelCardData(
        base_model=hub_id,
        datasets=[config.pairs.name],
        library_name="diffusers",
        pipeline_tag="text-to-image",
        tags=["text-to-image", "diffusers", *(["lora"] if config.lora else []), "asap", "dpo", "human-anatomy"],
        model_name=config.out.resolve().name if results else None,
        eval_results=results or None,
        **LICENCES.get(source.preset.licence if source.preset else "", {}),
        **relation,
    )
    return str(data.to_yaml())


def _plain(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def written(figure: Figure) -> dict[str, str]:
    """A figure written out, as on the page."""
    rate = figure.role == "anatomy"
    write, apart = (percent, points) if rate else (number, signed)
    interval = "" if figure.low is None else f" [{apart(figure.low)}, {apart(figure.high)}]"
    rsi = "–" if figure.rsi is None else f"{figure.rsi:.2f}"
    if figure.rsi is not None and figure.rsi_low is not None and figure.rsi_high is not None:
        rsi += f" [{figure.rsi_low:.2f}, {figure.rsi_high:.2f}]"
    return {
        "metric": f"{figure.metric}, {'error rate' if rate else 'mean'}",
        "base": write(figure.base),
        "checkpoint": write(figure.checkpoint),
        "difference": f"{apart(figure.difference)}{interval}",
        "p": p_value(figure.p),
        "rsi": rsi,
        "verdict": figure.verdict,
    }


def _data(config: FitConfig) -> dict[str, Any]:
    """What the pairs' own card says of them; nothing where they are no longer there."""
    from asap_train.hap.manifest import LAYOUT
    from asap_train.hap.read import read_hap
    from hafbench.stores import kept_copy

    try:
        manifest = read_hap(kept_copy(config.pairs, LAYOUT))
    except HafError:
        return {}
    counts = manifest.counts
    return {
        "pairs": counts.split.get("train", 0),
        "photos": counts.photos,
        "regions": ", ".join(f"{name} {count}" for name, count in counts.region.items()),
        "licence": manifest.details.licence,
        "about": manifest.details.about,
    }
