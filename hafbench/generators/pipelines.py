"""Load a diffusers pipeline from files that run no code: a folder in its layout, or a single .safetensors file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hafbench import hub
from hafbench.errors import HafError, Unavailable, one_line
from hafbench.generators.missing import check_complete, complete
from hafbench.generators.sources import (
    LEFT_OUT,
    Files,
    Source,
    fetch,
    locate,
    out_of_reach,
    read_index,
    refuse_pickles,
    weights_of,
)

DENOISERS = ("transformer", "unet")


def load_pipeline(source: Source, dtype: Any) -> tuple[Any, dict[str, Any]]:
    """The pipeline on the CPU in the given torch dtype, and the facts about its files for run.json.

    What would change images behind the model's back, a safety checker and an invisible watermark, is switched off.
    Raises Unavailable for files that cannot be had, and HafError for files that are not a pipeline.
    """
    return load_parts(find_files(source), dtype)


@dataclass(frozen=True)
class PipelineFiles:
    """The files of a pipeline, found once. `configuration` is the folder with model_index.json, if not with weights."""

    source: Source
    files: Files
    configuration: Path

    @property
    def where(self) -> Path:
        """What messages name."""
        return self.files.file or self.configuration


def find_files(source: Source) -> PipelineFiles:
    """The files of a model, fetched from the hub unless they are here; Unavailable where that cannot be done."""
    hub.offline()
    _be_quiet()
    files = locate(source)
    if files.file is None:
        assert files.folder is not None  # noqa: S101 (one of the two is there)
        return PipelineFiles(source, files, files.folder)
    with _as_model(files.file):
        if files.folder:
            refuse_pickles(files.folder)
            return PipelineFiles(source, files, files.folder)
        source = replace(source, hub_id=_family(source, files))
        folder = _configuration(source)
        facts = {**files.facts, "configuration": {"hub_id": source.hub_id, "commit": folder.name}}
        return PipelineFiles(source, replace(files, facts=facts), folder)


def load_parts(found: PipelineFiles, dtype: Any, here: Mapping[str, Any] = MappingProxyType({})) -> tuple[Any, Any]:
    """As `load_pipeline`; components that are `here` already, or are None, are not loaded."""
    _be_quiet()
    with _as_model(found.where), complete(found.where):
        if found.files.file:
            pipeline, facts = _from_file(found, dtype, here)
        else:
            pipeline, facts = _from_folder(found.files, dtype, **here), found.files.facts
    check_complete(found.where, {name: part for name, part in pipeline.components.items() if name not in here})
    _switch_off(pipeline)
    return pipeline, facts


def variant_of(pipeline: Any, kind: Any, **added: Any) -> Any:
    """The pipeline of the same components that one of diffusers' AutoPipelines has for another use of the model.

    `added` are further components. Raises ValueError where diffusers has none.
    """
    changed = kind.from_pipe(pipeline, **added)
    _switch_off(changed)
    return changed


def _switch_off(pipeline: Any) -> None:
    pipeline.set_progress_bar_config(disable=True)
    for name in (*LEFT_OUT, "watermark"):
        if getattr(pipeline, name, None) is not None:
            setattr(pipeline, name, None)


def _be_quiet() -> None:
    # diffusers imports bitsandbytes, which warns on every start that an optional kernel is not installed.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


@contextmanager
def _as_model(where: Path) -> Iterator[None]:
    """Errors within are HafErrors that name the model's files."""
    try:
        yield
    except HafError:
        raise
    except Exception as error:
        reason = one_line(error, 300)
        raise HafError(f"{where} cannot be loaded as a diffusers model ({type(error).__name__}: {reason}).") from error


def _from_folder(files: Files, dtype: Any, **parts: Any) -> Any:
    """`parts` are components that are here already."""
    import diffusers

    assert files.folder is not None  # noqa: S101 (whoever calls this has one)
    index = read_index(files.folder)
    left_out = {name: None for name in LEFT_OUT if name in index}
    return diffusers.DiffusionPipeline.from_pretrained(
        str(files.folder),
        variant=_variant(files),
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        **left_out,
        **parts,
    )


def _variant(files: Files) -> str | None:
    """The middle part of names such as model.fp16.safetensors, among the files that were chosen."""
    middles = {Path(name).stem.partition(".")[2].partition("-")[0] for name in files.facts.get("weights", {})}
    return next(iter(middles - {""}), None)


def _from_file(found: PipelineFiles, dtype: Any, here: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A checkpoint of a whole pipeline, or of the denoiser alone; the rest comes from the folder that it lies in,
    or from the hub repository of its family."""
    import diffusers

    files, folder = found.files, found.configuration
    single_file = _single_file_utils(files)
    index = read_index(folder)
    kind = getattr(diffusers, index["_class_name"], None)
    if kind is None or not hasattr(kind, "from_single_file"):
        raise HafError(f"{files.file}: {index['_class_name']} of diffusers loads no single files; give its folder.")
    try:
        pipeline = kind.from_single_file(
            str(files.file), config=str(folder), dtype=dtype, local_files_only=True, **here
        )
        return pipeline, files.facts
    except single_file.SingleFileComponentError:
        whole = Files(folder, facts={"weights": weights_of(folder)}) if files.folder else fetch(found.source)
    assert whole.folder is not None  # noqa: S101 (it was given, or has been fetched)
    name = next((part for part in DENOISERS if part in index), None)
    if name is None:
        raise HafError(f"{files.file} does not hold a whole {index['_class_name']}; give its folder.")
    if name not in here:
        network = getattr(diffusers, index[name][1]).from_single_file(
            str(files.file), config=str(whole.folder), subfolder=name, dtype=dtype, local_files_only=True
        )
        here = {**here, name: network}
    return _from_folder(whole, dtype, **here), {**files.facts, "base": whole.facts}


def _family(source: Source, files: Files) -> str:
    """The hub id of the pipeline that a checkpoint belongs to: the preset's, or as its tensors' names tell."""
    if source.hub_id:
        return source.hub_id
    single_file = _single_file_utils(files)
    checkpoint = single_file.load_single_file_checkpoint(str(files.file))
    return str(single_file.fetch_diffusers_config(checkpoint)["pretrained_model_name_or_path"])


def _single_file_utils(files: Files) -> Any:
    """A module of diffusers that is not part of its public API; raises HafError for a version without it."""
    try:
        from diffusers.loaders import single_file_utils
    except ImportError as error:
        raise HafError(f"{files.file}: this version of diffusers reads no single files so; give its folder.") from error
    return single_file_utils


def _configuration(source: Source) -> Path:
    """A hub repository's configuration and tokenizers, without its weights."""
    from huggingface_hub import snapshot_download

    wanted = ["**/*.json", "*.json", "*.txt", "**/*.txt", "**/*.model"]
    try:
        return Path(snapshot_download(source.hub_id, revision=source.revision, allow_patterns=wanted))
    except Exception as error:
        raise Unavailable(
            f"{source.path} holds tensors only: put it beside the model_index.json of a copy of {source.hub_id}, "
            f"or allow its configuration to be fetched from the hub; {out_of_reach(source, error)}"
        ) from error
