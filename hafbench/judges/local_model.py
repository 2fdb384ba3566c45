"""A vision-language model of transformers on this machine: questions in, replies with log-probabilities out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hafbench.errors import HafError, RunStopped, one_line
from hafbench.generators.missing import complete
from hafbench.judges.local_files import Files
from hafbench.judges.questions import Picture, Question, Reply, Token

ALTERNATIVES = 20
"""How many of the likeliest tokens are told at each place; the token that stands there comes on top if need be."""


class TooLarge(HafError):
    """The questions do not fit into the memory together."""


class Abandoned(RunStopped):
    """Nobody waits for these replies any more."""


class Picker:
    """Chooses each next token, and records the log-probabilities of the likeliest ones.

    It is the only logits processor, so it sees the model's raw logits, of shape (questions, vocabulary). With
    `generator`, which may go with one question only, it draws at `temperature`; without, it takes the likeliest token.
    """

    def __init__(self, temperature: float, generator: Any | None, is_wanted: Callable[[], bool]) -> None:
        self._temperature, self._generator, self._is_wanted = temperature, generator, is_wanted
        self._ids: list[Any] = []
        self._logprobs: list[Any] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores whose maximum is the chosen token. Raises Abandoned if nobody waits for the replies."""
        import torch

        if not self._is_wanted():
            raise Abandoned("The judge was stopped.")
        logprobs = torch.log_softmax(scores.float(), dim=-1)
        if self._generator is None:
            chosen = logprobs.argmax(dim=-1, keepdim=True)
        else:
            # Drawn on the CPU, so that a seed gives the same draws on every device.
            chances = torch.softmax(logprobs.cpu() / self._temperature, dim=-1)
            chosen = torch.multinomial(chances, 1, generator=self._generator).to(scores.device)
        ids = torch.cat([chosen, logprobs.topk(min(ALTERNATIVES, logprobs.shape[-1])).indices], dim=-1)
        self._ids.append(ids)
        self._logprobs.append(logprobs.gather(-1, ids))
        return torch.full_like(scores, -math.inf).scatter(-1, chosen, 0.0)

    def steps(self) -> tuple[list[list[list[int]]], list[list[list[float]]]]:
        """Ids and their log-probabilities by question, step and rank; the chosen one first, and again by its rank."""
        import torch

        return torch.stack(self._ids, dim=1).tolist(), torch.stack(self._logprobs, dim=1).tolist()


class LocalModel:
    """A loaded model with its processor. Not for several threads at once."""

    def __init__(self, name: str, model: Any, processor: Any) -> None:
        from transformers import GenerationConfig

        self.name = name
        self._model, self._processor, self._tokenizer = model, processor, processor.tokenizer
        self._ends = _end_tokens(model.generation_config.eos_token_id, self._tokenizer.eos_token_id)
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        # A model's own sampling settings and repetition penalty, which punishes the quotes of JSON, are not taken over.
        model.generation_config = GenerationConfig(
            eos_token_id=sorted(self._ends) or None, pad_token_id=self._tokenizer.pad_token_id
        )
        tokens = self._tokenizer.added_tokens_decoder.values()
        self._control = [token.content for token in tokens if token.special]
        # The switch exists only in some templates; for another one, it would be taken for an argument of the processor.
        has_switch = "enable_thinking" in str(processor.chat_template)
        self._variables = {"enable_thinking": False} if has_switch else {}
        self._texts: dict[int, str] = {}

    def check(self, question: Question) -> None:
        """Raise HafError if a text holds a control token: it could pose as another part of the conversation."""
        texts = [question.system, *(part for part in question.parts if isinstance(part, str))]
        for token in self._control:
            if any(token in text for text in texts):
                raise HafError(f"The question has the text {token}, which is a control token of {self.name}.")

    def reply(self, questions: Sequence[Question], is_wanted: Callable[[], bool] = lambda: True) -> list[Reply]:
        """Replies to questions at once, all of temperature 0, or to a single one.

        Raises TooLarge if they do not fit into the memory, Abandoned if `is_wanted` says no in between, and HafError
        for NaN.
        """
        first = questions[0]
        pixels = ", ".join(f"{each.pixels.shape[1]}x{each.pixels.shape[0]}" for each in first.pictures) or "none"
        size = 0
        try:
            inputs = self._encode(questions)
            size = int(inputs["input_ids"].shape[1])
            picker = self._generate(inputs, questions, is_wanted)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise TooLarge(
                f"A question of {size or 'many'} tokens with pictures of {pixels} pixels does not fit into the memory "
                f"of {self._model.device}; use a smaller model, smaller pictures or dtype bf16."
            ) from None
        counts = inputs["attention_mask"].sum(-1).tolist()
        ids, logprobs = picker.steps()
        return [self._read(*each) for each in zip(questions, ids, logprobs, counts, strict=True)]

    def _encode(self, questions: Sequence[Question]) -> Any:
        """The model's inputs, padded on the left."""
        inputs = self._processor.apply_chat_template(
            [_messages(question) for question in questions],
            tokenize=True,
            return_dict=True,
            add_generation_prompt=True,
            padding=True,
            return_tensors="pt",
            **self._variables,
        )
        return inputs.to(self._model.device, self._model.dtype)

    def _generate(self, inputs: Any, questions: Sequence[Question], is_wanted: Callable[[], bool]) -> Picker:
        import torch
        from transformers import LogitsProcessorList

        first, generator = questions[0], None
        if first.temperature > 0:
            generator = torch.Generator("cpu").manual_seed(first.seed + first.sample)
        picker = Picker(first.temperature, generator, is_wanted)
        with torch.inference_mode():
            self._model.generate(
                **inputs,
                do_sample=False,  # the picker draws
                max_new_tokens=max(question.max_tokens for question in questions),
                logits_processor=LogitsProcessorList([picker]),
            )
        return picker

    def _read(self, question: Question, ids: list[list[int]], logprobs: list[list[float]], tokens_in: int) -> Reply:
        """One question's reply from its part of the picker's steps; what comes after its end is padding."""
        chosen = [step[0] for step in ids[: question.max_tokens]]
        end = next((place for place, each in enumerate(chosen) if each in self._ends), None)
        told = chosen[:end]
        tokens = [
            Token(self._text(step[0]), self._alternatives(dict(zip(step, chances, strict=True))))
            for step, chances in zip(ids[: len(told)], logprobs[: len(told)], strict=True)
        ]
        return Reply(
            self._tokenizer.decode(told, skip_special_tokens=True, clean_up_tokenization_spaces=False),
            cut=end is None,
            tokens=tokens,
            tokens_in=tokens_in,
            tokens_out=len(told) + (end is not None),
            model=self.name,
        )

    def _alternatives(self, logprobs: Mapping[int, float]) -> dict[str, float]:
        """Log-probabilities by text; of tokens of the same text, such as parts of characters, the likeliest one's."""
        found: dict[str, float] = {}
        for each, logprob in logprobs.items():
            if math.isnan(logprob):
                judge = f"{{judge: local, model: {self.name}, options: {{dtype: fp32}}}}"
                raise HafError(f"{self.name} made NaN; try --set 'scorers.judge.judges=[{judge}]', or with bf16.")
            if logprob == -math.inf:
                continue
            text = self._text(each)
            found[text] = max(logprob, found.get(text, -math.inf))
        return found

    def _text(self, token: int) -> str:
        if token not in self._texts:
            self._texts[token] = self._tokenizer.decode([token], clean_up_tokenization_spaces=False)
        return self._texts[token]


def load_model(files: Files, dtype: str, device: str) -> LocalModel:
    """Load a model in a torch dtype to a torch device, from safetensors alone and without code from its folder.

    Raises HafError for what is not a vision-language model that answers in a chat, and for one that does not fit.
    """
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    where: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    try:
        processor = transformers.AutoProcessor.from_pretrained(str(files.folder), **where)
        with complete(files.folder):
            model = transformers.AutoModelForImageTextToText.from_pretrained(
                str(files.folder), dtype=getattr(torch, dtype), device_map={"": device}, use_safetensors=True, **where
            )
    except HafError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise HafError(f"{files.name} does not fit into the memory of {device} in {dtype}.") from error
        reason = f"{type(error).__name__}: {one_line(error, 300)}"
        raise HafError(
            f"{files.folder} cannot be loaded as a vision-language model of transformers ({reason})."
        ) from error
    if not getattr(processor, "image_processor", None):
        raise HafError(f"{files.folder} has no image processor: copy its preprocessor_config.json, too.")
    if not processor.chat_template:
        processor.chat_template = processor.tokenizer.chat_template
    if not processor.chat_template:
        raise HafError(f"{files.folder} has no chat template: name a model that was tuned to follow instructions.")
    return LocalModel(files.name, model.eval(), processor)


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA has an error of its own; the allocators of other devices say it in a RuntimeError."""
    import torch

    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in said or "can't allocate memory" in said)
    )


def _messages(question: Question) -> list[dict[str, Any]]:
    """The conversation in the form of chat templates, pictures as images of Pillow."""
    from PIL import Image

    content = [
        {"type": "image", "image": Image.fromarray(part.pixels)}
        if isinstance(part, Picture)
        else {"type": "text", "text": part}
        for part in question.parts
    ]
    system = {"role": "system", "content": [{"type": "text", "text": question.system}]}
    return [*([system] if question.system else []), {"role": "user", "content": content}]


def _end_tokens(*given: int | Sequence[int] | None) -> frozenset[int]:
    return frozenset(
        token for each in given if each is not None for token in ([each] if isinstance(each, int) else each)
    )
