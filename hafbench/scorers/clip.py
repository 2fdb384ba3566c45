"""The `clip` scorer: agreement of an image with its prompt, as the cosine of open_clip's embeddings.

CLIPScore (Hessel et al., arXiv 2104.08718) is 2.5 * max(cosine, 0). We give the cosine, in [-1, 1].
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench import hub, registry
from hafbench.errors import HafError, Unavailable, nearest, one_line
from hafbench.images import sha256_of
from hafbench.registry import Home
from hafbench.types import Role, Score
from hafbench.worlds import BUILT_IN, built_in

if TYPE_CHECKING:
    from hafbench.suites import Prompt
    from hafbench.types import Pixels

# The weights of an architecture that is named without a tag; any other takes the last tag that open_clip lists.
DEFAULT_TAGS = {"ViT-B-32": "laion2b_s34b_b79k", "ViT-L-14": "laion2b_s32b_b82k", "ViT-H-14": "laion2b_s32b_b79k"}

BATCH = 8
"""Images at once on a GPU."""


@dataclass(frozen=True)
class ClipModel:
    """What to load: an architecture or an open_clip schema (hf-hub:, local-dir:), with a tag or a weights file."""

    architecture: str
    tag: str | None = None
    file: Path | None = None


class ClipScorer:
    """Scores images in 32-bit floats, `batch_size` at once; a smaller batch is filled up with its last image.

    For a batch of another length the libraries choose other kernels, which gave cosines that differ by up to 7e-8
    (ViT-B-32 on a CPU). In batches of one length they were the same bit for bit, whatever else was in the batch.
    """

    name = "clip"
    role: Role = "quality"
    higher_is_better = True
    about = "How well the image agrees with its prompt: cosine of CLIP embeddings. It says nothing about anatomy."

    def __init__(
        self,
        model: Any,
        preprocess: Any,
        tokenizer: Any,
        device: str,
        settings: Mapping[str, Any],
        batch_size: int = 1,
    ) -> None:
        from importlib.metadata import version

        self.version = f"open_clip {version('open-clip-torch')}, {settings['model']}"
        self.settings = settings
        self.batch_size = batch_size
        self._model, self._preprocess, self._tokenizer, self._device = model, preprocess, tokenizer, device

    def score(self, image: Pixels, prompt: Prompt | None) -> Score:
        """The cosine in [-1, 1]; unknown for an image without a prompt. `truncated` is 1 if the prompt was cut."""
        return self.score_batch([image], [prompt])[0]

    def score_batch(self, images: Sequence[Pixels], prompts: Sequence[Prompt | None]) -> list[Score]:
        """For each image what `score` gives, bit for bit."""
        scores = [Score("unknown", reason="the image has no prompt", cause="absent")] * len(images)
        asked = [(place, prompt.text) for place, prompt in enumerate(prompts) if prompt is not None]
        for start in range(0, len(asked), self.batch_size):
            batch = asked[start : start + self.batch_size]
            values = self._cosines([images[place] for place, _ in batch], [text for _, text in batch])
            for (place, text), value in zip(batch, values, strict=True):
                scores[place] = Score("scored", value, measures={"truncated": float(self._is_cut(text))})
        return scores

    def _cosines(self, images: Sequence[Pixels], texts: Sequence[str]) -> list[float]:
        """Those of at most `batch_size` images with their texts."""
        import torch
        from PIL import Image

        filling = self.batch_size - len(images)
        pixels = [self._preprocess(Image.fromarray(image)) for image in images]
        tokens = self._tokenizer([*texts, *[texts[-1]] * filling])
        with torch.inference_mode():
            batch = torch.stack([*pixels, *[pixels[-1]] * filling]).to(self._device)
            seen = self._model.encode_image(batch, normalize=True).cpu().double()
            read = self._model.encode_text(tokens.to(self._device), normalize=True).cpu().double()
            return [float((seen[i : i + 1] @ read[i : i + 1].T).item()) for i in range(len(images))]

    def _is_cut(self, text: str) -> bool:
        """Does the text go on behind the model's context? Seen by tokenizing it with a far longer one."""
        context = self._tokenizer([text]).shape[1]
        wide = self._tokenizer([text], context_length=16 * context)[0]
        return bool((wide[context:] != wide[-1]).any())


def parse_model(text: str) -> ClipModel:
    """`mannequin`, ARCH, ARCH:TAG, ARCH:FILE, hf-hub:ID, or a folder with open_clip_config.json."""
    import open_clip

    if text == BUILT_IN:
        return ClipModel(f"local-dir:{built_in('clip')}")
    if Path(text).is_dir():
        if not (Path(text) / "open_clip_config.json").is_file():
            raise HafError(f"--clip {text}: this folder has no open_clip_config.json.")
        return ClipModel(f"local-dir:{text}")
    if text.startswith("hf-hub:"):
        return ClipModel(text)
    architecture, _, rest = text.partition(":")
    if architecture not in open_clip.list_models():
        raise HafError(f"--clip {text}: there is no architecture '{architecture}'; {_near(architecture)}")
    if rest and Path(rest).suffix:
        if not Path(rest).is_file():
            raise HafError(f"--clip {text}: there is no file {rest}.")
        return ClipModel(architecture, file=Path(rest))
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if rest and rest not in tags:
        raise HafError(f"--clip {text}: {architecture} has no weights '{rest}'; {nearest(rest, tags)}")
    if not rest and not tags:
        raise HafError(
            f"--clip {text}: open_clip knows no weights for {architecture}; name a file, {architecture}:FILE."
        )
    return ClipModel(architecture, rest or DEFAULT_TAGS.get(architecture, tags[-1]))


def _near(architecture: str) -> str:
    import open_clip

    return nearest(architecture, open_clip.list_models())


class Options(registry.Options):
    """`model` is an open_clip model: ARCH, ARCH:TAG, ARCH:FILE, hf-hub:ID, a folder, or mannequin (built in)."""

    model: str = "ViT-B-32"

    @classmethod
    def home_defaults(cls, home: Home) -> Mapping[str, Any]:
        """Mannequins are for the built-in CLIP, which was trained on them."""
        return {"model": BUILT_IN} if home == "mannequins" else {}

    @property
    def home(self) -> Home | None:
        """A model of the user's own may be for either."""
        if self.model == BUILT_IN:
            return "mannequins"
        return None if Path(self.model).exists() else "photographs"


def load(options: Options, device: str) -> ClipScorer:
    """Load the model; raises Unavailable if its weights are unavailable, HafError for a wrong name or file."""
    hub.offline()
    import logging

    import open_clip

    from hafbench.devices import pick_device

    wanted = parse_model(options.model)
    device = pick_device(device)
    # Many published weights were trained with QuickGELU; without it they load all the same, and give wrong embeddings.
    quick_gelu = bool(wanted.tag and open_clip.get_pretrained_cfg(wanted.architecture, wanted.tag).get("quick_gelu"))
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.CRITICAL)  # open_clip logs every failed attempt on the root logger
    try:
        model, preprocess = open_clip.create_model_from_pretrained(
            wanted.architecture,
            pretrained=str(wanted.file) if wanted.file else wanted.tag,
            device=device,
            force_quick_gelu=quick_gelu,
            weights_only=True,
        )
        tokenizer = open_clip.get_tokenizer(wanted.architecture)
    except Exception as error:
        reason = one_line(error, 160)
        if wanted.file or wanted.architecture.startswith("local-dir:"):
            raise HafError(f"--clip {options.model}: the weights cannot be loaded ({reason}).") from error
        if not hub.fetch_failed(error):
            raise HafError(
                f"--clip {options.model}: the weights in the hub's cache are damaged ({reason}); delete them."
            ) from error
        raise Unavailable(
            f"The CLIP weights {options.model} are not on this machine and cannot be fetched; "
            "connect to the hub once, or name a local file: --clip ARCH:FILE."
        ) from error
    finally:
        logging.getLogger().setLevel(level)
    model = model.float().eval()
    settings = {
        "model": options.model,
        "tag": wanted.tag,
        "weights": {"parameters": sha256_of_parameters(model)},
    }
    if wanted.file:
        settings["weights"] = {wanted.file.name: sha256_of(wanted.file)}
    return ClipScorer(model, preprocess, tokenizer, device, settings, 1 if device == "cpu" else BATCH)


def sha256_of_parameters(model: Any) -> str:
    """One hash over the names and values of all parameters: the same wherever the weights were found."""
    import torch

    total = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        total.update(name.encode())
        total.update(value.detach().cpu().to(torch.float32).contiguous().numpy().tobytes())
    return total.hexdigest()
