"""Train the small CLIP tokenizer on captions, and say how long they are.

python recipes/mannequin/tokenizer.py --data TRAIN --out DIR

Words of the captions are one token each. Other words fall apart into pieces, down to bytes, so that any text can be
tokenized. diffusion.py does the same for itself where OUT/tokenizer is missing.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from hafbench.mannequin.attributes import Attributes
from hafbench.mannequin.captions import caption

LENGTH = 32
"""Tokens of a text, with its start and end. Every one is a token of the transformer: short is cheap."""
VOCABULARY = 1200
"""More than the closed language of captions needs: every one of its words becomes one token."""
START, END, SUFFIX = "<|startoftext|>", "<|endoftext|>", "</w>"


def read_attributes(path: Path, most: int | None = None) -> list[Attributes]:
    """What the pictures of a truth.jsonl show."""
    with path.open(encoding="utf-8") as lines:
        return [
            Attributes(**json.loads(line)["attributes"]) for _, line in zip(range(most or 10**9), lines, strict=False)
        ]


def train_tokenizer(texts: Sequence[str], vocabulary: int = VOCABULARY, length: int = LENGTH) -> CLIPTokenizer:
    """A CLIPTokenizer of all bytes and the commonest pieces of `texts`, at most `vocabulary` tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    base = [*letters, *(letter + SUFFIX for letter in letters)]
    trained = Tokenizer(models.BPE(end_of_word_suffix=SUFFIX))
    # Cut texts as CLIPTokenizer will.
    usual = CLIPTokenizer().backend_tokenizer
    trained.normalizer, trained.pre_tokenizer = usual.normalizer, usual.pre_tokenizer

    def merges(count: int) -> list[tuple[str, str]]:
        trainer = trainers.BpeTrainer(
            vocab_size=len(letters) + count, initial_alphabet=letters, end_of_word_suffix=SUFFIX, show_progress=False
        )
        trained.train_from_iterator(texts, trainer)
        return [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]

    room = vocabulary - len(base) - 2
    # The trainer counts letters at ends of words, too, but only those it saw.
    pairs = merges(room + len(letters))[:room]
    words = list(dict.fromkeys([*base, *(a + b for a, b in pairs), START, END]))
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=pairs, model_max_length=length)


def train_on(data: Path, captions: int = 40_000, seed: int = 0) -> CLIPTokenizer:
    """The tokenizer of a data set's captions."""
    rng = random.Random(seed)  # noqa: S311
    shown = read_attributes(data / "truth.jsonl")
    return train_tokenizer([caption(rng.choice(shown), rng) for _ in range(captions)])


def main() -> None:
    """Train, save, load again, measure on fresh captions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    train_on(given.data).save_pretrained(given.out)
    tokenizer = CLIPTokenizer.from_pretrained(given.out)
    rng = random.Random(1)  # noqa: S311
    shown = read_attributes(given.data / "truth.jsonl", most=5000)
    texts = [caption(attributes, rng) for attributes in shown]
    lengths = sorted(len(ids) for ids in tokenizer(texts).input_ids)
    words = {word.strip(".,") for text in texts for word in text.lower().split()}
    facts = {
        "vocabulary": len(tokenizer),
        "length_median": lengths[len(lengths) // 2],
        "length_99": lengths[len(lengths) * 99 // 100],
        "length_most": lengths[-1],
        "too_long": sum(length > LENGTH for length in lengths) / len(lengths),
        "words": len(words),
        "words_of_many_tokens": sorted(word for word in words if len(tokenizer.tokenize(word)) > 1),
        "never_seen": tokenizer.tokenize("Zebra é 7"),
    }
    print(json.dumps(facts, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
