"""Which pairs each batch of a fit has: a pure function of the seed and of the batch's number."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

from asap_train.training import noise


@dataclass(frozen=True)
class Order:
    """The pairs in batches that are of one bucket each; `buckets` has that of each pair.

    Batches are numbered through the whole fit, over all processes. Each bucket has its pairs once in an epoch of its
    own, and a batch may reach into the next one: none is left out, and none is repeated to fill a batch. A round of
    batches has of each bucket as many as its share of the pairs asks for, in random order.
    """

    seed: int
    batch_size: int
    buckets: Sequence[Hashable]

    def batch(self, number: int) -> list[int]:
        """The places of a batch's pairs."""
        round_, first = self._round_of(number)
        if round_ not in self._kept:
            self._kept.clear()
            self._kept[round_] = self._labels(round_)
        labels = self._kept[round_][: number - first + 1]
        bucket = labels[-1]
        places = self._places[bucket]
        # How many batches of this bucket came before.
        before = self._batches(round_, len(places)) + labels.count(bucket) - 1
        positions = range(before * self.batch_size, (before + 1) * self.batch_size)
        return [places[noise.pair_at(self.seed, position, len(places))] for position in positions]

    @cached_property
    def _places(self) -> list[list[int]]:
        """By bucket, in the order of first pairs, where its pairs are."""
        found: dict[Hashable, list[int]] = {}
        for place, bucket in enumerate(self.buckets):
            found.setdefault(bucket, []).append(place)
        return list(found.values())

    @cached_property
    def _kept(self) -> dict[int, list[int]]:
        """The labels of the round that was asked for last."""
        return {}

    def _batches(self, rounds: int, count: int) -> int:
        """Of a bucket with so many pairs in all of the first rounds."""
        return rounds * count // self.batch_size

    def _first(self, round_: int) -> int:
        """The number of a round's first batch."""
        return sum(self._batches(round_, len(places)) for places in self._places)

    def _round_of(self, number: int) -> tuple[int, int]:
        """The round that has a batch, and the number of its first batch."""
        round_ = number * self.batch_size // len(self.buckets)
        while self._first(round_ + 1) <= number:
            round_ += 1
        return round_, self._first(round_)

    def _labels(self, round_: int) -> list[int]:
        """The buckets of a round's batches."""
        counts = [len(places) for places in self._places]
        ordered = [
            bucket
            for bucket, count in enumerate(counts)
            for _ in range(self._batches(round_ + 1, count) - self._batches(round_, count))
        ]
        return [ordered[i] for i in noise.epoch_order(noise.hashed(self.seed, "buckets"), round_, len(ordered))]
