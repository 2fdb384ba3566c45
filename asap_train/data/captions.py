"""Captions of photos: given ones, those of a captioning model, or a plain sentence from the parts that were found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hafbench.errors import HafError, Unavailable, one_line

if TYPE_CHECKING:
    from asap_train.types import Part
    from hafbench.types import Pixels

MOST_TOKENS = 48
SHOWN: Mapping[str, tuple[str, str]] = {
    "face": ("a face", "faces"),
    "hands": ("a hand", "hands"),
    "feet": ("a foot", "feet"),
}
"""What is said of a region with one part, and with several; of limbs and torso nothing, for `a person` says it."""
NUMBERS: Mapping[int, str] = {2: "two", 3: "three", 4: "four", 5: "five"}


def given_captions(folder: Path, table: Path | None = None) -> dict[Path, str]:
    """The captions of the images below `folder` that have one, by the image's resolved path.

    From `table` (.csv, .jsonl or .parquet, as `hafbench score --prompts` reads it: a column for the file's name, and
    one called prompt, text or caption), and for the others from a text file beside the image: hand.txt for hand.png.
    Raises HafError for a folder without images, a broken table and a text that is not UTF-8.
    """
    from hafbench.sources import open_source, read_images

    found = {}
    for image in read_images(open_source(folder, "folder"), table):
        path = folder.resolve() / image.name
        text = image.prompt.text if image.prompt else _text_beside(path)
        if text:
            found[path] = text
    return found


def _text_beside(path: Path) -> str | None:
    beside = path.with_suffix(".txt")
    if not beside.is_file():
        return None
    try:
        return " ".join(beside.read_text(encoding="utf-8-sig").split())
    except (OSError, UnicodeDecodeError) as error:
        raise HafError(f"{beside} cannot be read as UTF-8 text ({one_line(error)}); write it again.") from error


def describe(parts: Sequence[Part]) -> str:
    """A sentence that says no more than what was found: `a photo of a person, a face and two hands in view`."""
    counts = {region: sum(part.region == region for part in parts) for region in SHOWN}
    seen = [_counted(*SHOWN[region], count) for region, count in counts.items() if count]
    if not parts:
        return "a photo"
    if {part.region for part in parts} <= {"hands"}:
        return f"a photo of {seen[0]}"
    who = "people" if counts["face"] > 1 else "a person"
    return f"a photo of {who}" + (f", {_listed(seen)} in view" if seen else "")


def _counted(one: str, several: str, count: int) -> str:
    return one if count == 1 else f"{NUMBERS.get(count, 'many')} {several}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


class Captioner:
    """An image-to-text model of transformers, such as BLIP (Li et al. 2022, arXiv 2201.12086), by greedy search."""

    def __init__(self, model: Any, processor: Any, name: str, device: str) -> None:
        from importlib.metadata import version

        from hafbench.scorers.clip import sha256_of_parameters

        self._model, self._processor, self._device = model, processor, device
        self.settings: Mapping[str, Any] = {
            "model": name,
            "transformers": version("transformers"),
            "weights": {"parameters": sha256_of_parameters(model)},
        }

    def caption(self, image: Pixels) -> str:
        """One sentence for an RGB image (height, width, 3); the same image gives the same one."""
        import torch

        inputs = self._processor(images=image, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            tokens = self._model.generate(**inputs, max_new_tokens=MOST_TOKENS, do_sample=False, num_beams=1)
        return " ".join(self._processor.batch_decode(tokens, skip_special_tokens=True)[0].split())


def load_captioner(source: str, device: str = "cpu") -> Captioner:
    """A captioner from a folder or the hub's cache on this machine, safetensors only, nothing downloaded.

    Raises Unavailable if it is not there, and HafError if it cannot be loaded.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    try:
        model = AutoModelForImageTextToText.from_pretrained(source, local_files_only=True, use_safetensors=True)
        processor = AutoProcessor.from_pretrained(source, local_files_only=True)
    except OSError as error:
        raise Unavailable(
            f"The captioner {source} is not on this machine as safetensors ({one_line(error, 100)}); download it with "
            "`hf download`, give captions, or leave it out."
        ) from error
    except (ValueError, KeyError) as error:
        raise HafError(
            f"The captioner {source} cannot be loaded ({one_line(error)}); use an image-to-text model such as BLIP."
        ) from error
    return Captioner(model.to(device).eval(), processor, source, device)
