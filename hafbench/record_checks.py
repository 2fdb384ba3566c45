"""Whether a table of records holds what `Record` promises: one check for whoever reads records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from hafbench.errors import HafError
from hafbench.suites import Category
from hafbench.types import STATUSES, Cause, Kind, Region, Role, Score

if TYPE_CHECKING:
    import pyarrow as pa

LARGEST = 1e12
"""No metric in use has values beyond this; sums of such values and of their squares stay finite."""
OF_TEXT = ("sha256", "prompt_id", "prompt", "category")
"""Columns of text that are, like the seed, the same in all rows of an image."""

Broken = tuple[Any, str]
"""Which rows break a rule, as booleans (n,), and what is said of the first of them; `{column}` is that row's value."""


def problem_of(score: Score, role: Role) -> str | None:
    """How a score contradicts its own status or leaves its range; None if it does not."""
    value, top = score.value, 1.0 if role == "anatomy" else LARGEST
    if (score.status == "scored") != (value is not None):
        return f"status is '{score.status}' but value is {value}"
    if (score.status == "scored") != (score.reason is None):
        return f"status is '{score.status}' but the reason is {score.reason!r}"
    if score.cause is not None and (score.status != "unknown" or score.cause not in get_args(Cause)):
        return f"status is '{score.status}' but the cause is {score.cause!r}"
    if value is not None and not (0.0 if role == "anatomy" else -top) <= value <= top:  # also not a number
        return f"status is '{score.status}' but value is {value}"
    if role == "anatomy" and (value is not None) != (score.is_error is not None):
        return f"status is '{score.status}' but is_error is {score.is_error}"
    return next((f"a finding has the score {one.score}" for one in score.findings if not 0 <= one.score <= 1), None)


def check_types(found: pa.Schema, wanted: pa.Schema, where: str) -> None:
    """Raises HafError for a column of `found` whose type is not that of `wanted`, or an equivalent one."""
    import pyarrow as pa

    for name in found.names:
        kind, right = found.field(name).type, wanted.field(name).type
        alike = (pa.types.is_large_string(kind) and right == pa.string()) or (
            pa.types.is_signed_integer(kind) and right == pa.int64()
        )
        # In a column that has missing values only, some writers keep no type.
        if kind not in (right, pa.null()) and not alike:
            raise HafError(f"{where}: the column {name} holds {kind}, where {right} is needed.")


def check_rows(
    table: pa.Table, roles: Mapping[str, Role], where: str, *, numbers: Sequence[int] | None = None, whole: bool = True
) -> None:
    """Raises HafError, with the number of the row and the reason, for the first rule that a row breaks.

    `roles` are those of the run's scorers. Rows are counted from 1, or have the `numbers` of the lines that they came
    from. With `whole` every image has a row of every scorer.
    """
    _refuse(_rules(table, roles, whole), table, where, numbers, known=", ".join(roles) or "none")


def check_findings(table: pa.Table, where: str) -> None:
    """The same for a table that has the column findings, or some fields of theirs, and need not have the others."""
    _refuse(_findings(table["findings"].combine_chunks()), table, where)


def check_measures(table: pa.Table, where: str) -> None:
    """The same for a table that has the column measures."""
    _refuse(_measures(table["measures"].combine_chunks()), table, where)


def _refuse(
    rules: Iterable[Broken], table: pa.Table, where: str, numbers: Sequence[int] | None = None, known: str = ""
) -> None:
    import numpy as np

    for broken, sentence in rules:
        rows = np.flatnonzero(broken)
        if len(rows):
            row = int(rows[0])
            named = [name for name in table.column_names if f"{{{name}}}" in sentence]
            values = {name: " ".join(str(table[name][row].as_py()).split())[:80] for name in named}
            place = f"row {row + 1}" if numbers is None else f"line {numbers[row]}"
            raise HafError(f"{where}, {place}: {sentence.format(**values, known=known)}.")


def _rules(table: pa.Table, roles: Mapping[str, Role], whole: bool) -> Iterator[Broken]:
    texts = {name: _coded(table[name]) for name in ("image", "scorer", "status", "reason", "cause", *OF_TEXT)}
    yield from _words(table, texts, roles)
    yield from _scores(table, texts, roles)
    yield from _images(table, texts, roles, whole)
    if "findings" in table.column_names:
        yield from _findings(table["findings"].combine_chunks())
    if "measures" in table.column_names:
        yield from _measures(table["measures"].combine_chunks())


@dataclass(frozen=True)
class _Coded:
    """A column of text: its `words`, and of each row which of them it is, (n,), -1 where it is missing.

    What is asked of every text is so asked once of each. A word is there once, but where parts of the column have
    dictionaries of their own, once for each part.
    """

    words: pa.Array
    codes: Any

    def among(self, mask: Any) -> Any:
        """Which rows (n,) have a word for which the mask of the words, booleans, is True."""
        import numpy as np

        return np.r_[np.asarray(mask, dtype=bool), False][self.codes]

    def unlike(self, others: Any) -> Any:
        """Which rows (n,) have another text than the rows `others` (n,)."""
        import numpy as np
        import pyarrow.compute as pc

        unlike = self.codes != self.codes[others]
        rows = np.flatnonzero(unlike & (self.codes >= 0) & (self.codes[others] >= 0))
        one, other = (self.words.take(self.codes[place]) for place in (rows, others[rows]))
        unlike[rows] = _true(pc.not_equal(one, other))
        return unlike

    def outside(self, known: Sequence[str]) -> Any:
        """Which rows (n,) have a word that is none of those known."""
        return self.among(_outside(self.words, known))


def _coded(column: pa.ChunkedArray) -> _Coded:
    import numpy as np
    import pyarrow as pa

    if pa.types.is_dictionary(column.type) and column.num_chunks:
        parts = column.chunks
    else:
        parts = [column.combine_chunks().dictionary_encode()]
    first, codes = 0, []
    for part in parts:
        own = part.indices.fill_null(-1).to_numpy()
        codes.append(np.where(own < 0, -1, own + first) if first else own)
        first += len(part.dictionary)
    return _Coded(pa.concat_arrays([part.dictionary for part in parts]), np.concatenate(codes))


def _words(table: pa.Table, texts: Mapping[str, _Coded], roles: Mapping[str, Role]) -> Iterator[Broken]:
    import pyarrow.compute as pc

    for name in ("image", "scorer", "status"):
        yield texts[name].codes < 0, f"{name} is missing"
    known = {"scorer": list(roles), "status": STATUSES, "category": get_args(Category), "cause": get_args(Cause)}
    said = {
        "scorer": "the scorer '{scorer}' is not among those of run.json ({known})",
        "status": f"the status '{{status}}' is none of {', '.join(STATUSES)}",
        "category": "there is no category '{category}'",
        "cause": f"the cause '{{cause}}' is none of {', '.join(known['cause'])}",
    }
    for name, sentence in said.items():
        yield texts[name].outside(known[name]), sentence
    image, sha256 = texts["image"], texts["sha256"]
    climbs = pc.match_substring_regex(image.words, r"^$|^/|(^|/)\.\.(/|$)|\x00")
    yield image.among(_true(climbs)), "the image '{image}' is not a path below the folder of images"
    yield sha256.among(~_true(pc.match_substring_regex(sha256.words, "^[0-9a-f]{64}$"))), "sha256 is '{sha256}'"
    for name in ("width", "height"):
        yield _true(pc.less(table[name], 1)), f"{name} is {{{name}}}"
    unlike = (texts["prompt_id"].codes < 0) != (texts["prompt"].codes < 0)
    yield unlike, "only one of prompt_id and prompt is there"


def _scores(table: pa.Table, texts: Mapping[str, _Coded], roles: Mapping[str, Role]) -> Iterator[Broken]:
    import numpy as np
    import pyarrow.compute as pc

    scored, unknown = (
        texts["status"].among(_true(pc.equal(texts["status"].words, word))) for word in ("scored", "unknown")
    )
    valued, judged = (_true(pc.is_valid(table[name])) for name in ("value", "is_error"))
    reasoned, caused = (texts[name].codes >= 0 for name in ("reason", "cause"))
    anatomy = ~texts["scorer"].outside([name for name, role in roles.items() if role == "anatomy"])
    value = table["value"].to_numpy()
    low, high = np.where(anatomy, 0.0, -LARGEST), np.where(anatomy, 1.0, LARGEST)
    yield scored & ~valued, "the status is 'scored', but there is no value"
    yield ~scored & valued, "the value is {value}, but the status is '{status}'"
    yield scored & anatomy & ~((value >= low) & (value <= high)), "the value {value} is not a probability, 0 to 1"
    yield scored & ~((value >= low) & (value <= high)), "the value {value} is no value of a metric"
    yield scored & reasoned, "the status is 'scored', but there is a reason why it is not"
    yield ~scored & ~reasoned, "the status is '{status}', but there is no reason"
    yield unknown & ~caused, "the status is 'unknown', but there is no cause"
    yield ~unknown & caused, "the cause is '{cause}', but the status is '{status}'"
    yield scored & anatomy & ~judged, "the status is 'scored', but is_error is missing"
    yield ~scored & judged, "is_error is {is_error}, but the status is '{status}'"


def _images(table: pa.Table, texts: Mapping[str, _Coded], roles: Mapping[str, Role], whole: bool) -> Iterator[Broken]:
    import numpy as np

    names = list(roles)
    if not len(table) or not names:
        return
    images, scorers = (texts[name].codes.astype(np.int64) for name in ("image", "scorer"))
    place = np.arange(len(images))
    first = np.empty(images.max() + 1, dtype=np.int64)
    first[images[::-1]] = place[::-1]
    cells = images * (scorers.max() + 1) + scorers
    again = np.zeros(len(cells), dtype=bool)
    if not (np.diff(cells) > 0).all():  # as they are in a run that was never edited
        seen = np.empty(cells.max() + 1, dtype=np.int64)
        seen[cells[::-1]] = place[::-1]
        again = seen[cells] != place
    yield again, "the image {image} has another row of the scorer {scorer}"
    of_first = first[images]
    for name in (*OF_TEXT, "seed"):
        own = texts[name] if name in texts else _coded(table[name])
        yield own.unlike(of_first), f"{name} is {{{name}}}, but not in the first row of the image {{image}}"
    if whole:
        few = np.bincount(images) < len(names)
        yield few[images], "the image {image} does not have a row of every scorer ({known})"


def _findings(lists: pa.ListArray) -> Iterator[Broken]:
    import numpy as np
    import pyarrow.compute as pc

    flat, parents = pc.list_flatten(lists), pc.list_parent_indices(lists).to_numpy()

    def rows(broken: Any) -> Any:
        return np.bincount(parents[broken], minlength=len(lists)) > 0

    one = {name: pc.struct_field(flat, name) for name in flat.type.names}
    for name, known in (("region", get_args(Region)), ("kind", get_args(Kind))):
        yield rows(_outside(one[name], known) | _true(pc.is_null(one[name]))), f"a finding has an unknown {name}"
    yield rows(_true(pc.is_null(one["detail"]))), "a finding has no detail"
    score = one["score"].to_numpy(zero_copy_only=False)
    yield rows(~((score >= 0) & (score <= 1))), "a finding has a score that is not in 0 to 1"
    if "box" in one:
        yield rows(_not_lists_of(4, one["box"])), "a finding has a box that is not four numbers"
    if "keypoints" in one:
        points = pc.list_flatten(one["keypoints"])
        owners = pc.list_parent_indices(one["keypoints"]).to_numpy()
        wrong = _not_lists_of(3, points) | _true(pc.is_null(points))
        yield rows(np.unique(owners[wrong])), "a finding has a keypoint that is not three numbers"


def _measures(maps: pa.MapArray) -> Iterator[Broken]:
    import numpy as np

    items = maps.items.to_numpy(zero_copy_only=False)
    offsets = maps.offsets.to_numpy()
    bad = np.r_[0, np.cumsum(~np.isfinite(items.astype(np.float64)))]
    yield bad[offsets[1:]] > bad[offsets[:-1]], "a measure is not a finite number"


def _not_lists_of(count: int, lists: pa.ListArray) -> Any:
    """Which lists (n,) are there, and are not `count` finite numbers."""
    import numpy as np
    import pyarrow.compute as pc

    inside = np.isfinite(pc.list_flatten(lists).to_numpy(zero_copy_only=False))
    finite = np.bincount(pc.list_parent_indices(lists).to_numpy()[inside], minlength=len(lists))
    lengths = pc.fill_null(pc.list_value_length(lists), count).to_numpy()
    return (lengths != count) | ((finite != count) & _true(pc.is_valid(lists)))


def _outside(words: Any, known: Sequence[str]) -> Any:
    """Which words (n,) are there, and are none of those known."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return _true(pc.and_(pc.is_valid(words), pc.invert(pc.is_in(words, pa.array(known, pa.string())))))


def _true(mask: Any) -> Any:
    """A column of booleans as numpy's (n,), where a missing one is False."""
    import pyarrow.compute as pc

    return pc.fill_null(mask, False).to_numpy(**({} if hasattr(mask, "num_chunks") else {"zero_copy_only": False}))
