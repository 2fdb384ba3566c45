"""Whether a table of records holds what `Record` promises: one check for whoever reads records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from hafbench.errors import HafError
from hafbench.suites import Category
from hafbench.types import STATUSES, Cause, Kind, Region, Role, Score

if TYPE_CHECKING:
    import pyarrow as pa

LARGEST = 1e12
"""No metric in use has values beyond this; sums of such values and of their squares stay finite."""
OF_IMAGE = ("sha256", "prompt_id", "prompt", "category", "seed")
"""Columns that are the same in all rows of an image."""

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
    """The same for a table that has the column findings, and need not have the others."""
    _refuse(_findings(table["findings"].combine_chunks()), table, where)


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
    yield from _words(table, roles)
    yield from _scores(table, roles)
    yield from _images(table, roles, whole)
    if "findings" in table.column_names:
        yield from _findings(table["findings"].combine_chunks())
    if "measures" in table.column_names:
        yield from _measures(table["measures"].combine_chunks())


def _words(table: pa.Table, roles: Mapping[str, Role]) -> Iterator[Broken]:
    import pyarrow.compute as pc

    for name in ("image", "scorer", "status"):
        yield _true(pc.is_null(table[name])), f"{name} is missing"
    known = {"scorer": list(roles), "status": STATUSES, "category": get_args(Category), "cause": get_args(Cause)}
    yield _outside(table["scorer"], known["scorer"]), "the scorer '{scorer}' is not among those of run.json ({known})"
    yield _outside(table["status"], known["status"]), f"the status '{{status}}' is none of {', '.join(STATUSES)}"
    yield _outside(table["category"], known["category"]), "there is no category '{category}'"
    yield _outside(table["cause"], known["cause"]), f"the cause '{{cause}}' is none of {', '.join(known['cause'])}"
    climbs = pc.match_substring_regex(table["image"], r"^$|^/|(^|/)\.\.(/|$)|\x00")
    yield _true(climbs), "the image '{image}' is not a path below the folder of images"
    yield _true(pc.invert(pc.match_substring_regex(table["sha256"], "^[0-9a-f]{64}$"))), "sha256 is '{sha256}'"
    for name in ("width", "height"):
        yield _true(pc.less(table[name], 1)), f"{name} is {{{name}}}"
    unlike = pc.not_equal(pc.is_null(table["prompt_id"]), pc.is_null(table["prompt"]))
    yield _true(unlike), "only one of prompt_id and prompt is there"


def _scores(table: pa.Table, roles: Mapping[str, Role]) -> Iterator[Broken]:
    import numpy as np
    import pyarrow.compute as pc

    scored = _true(pc.equal(table["status"], "scored"))
    valued, judged, reasoned = (_true(pc.is_valid(table[name])) for name in ("value", "is_error", "reason"))
    anatomy = ~_outside(table["scorer"], [name for name, role in roles.items() if role == "anatomy"])
    value = table["value"].to_numpy()
    low, high = np.where(anatomy, 0.0, -LARGEST), np.where(anatomy, 1.0, LARGEST)
    yield scored & ~valued, "the status is 'scored', but there is no value"
    yield ~scored & valued, "the value is {value}, but the status is '{status}'"
    yield scored & anatomy & ~((value >= low) & (value <= high)), "the value {value} is not a probability, 0 to 1"
    yield scored & ~((value >= low) & (value <= high)), "the value {value} is no value of a metric"
    yield scored & reasoned, "the status is 'scored', but there is a reason why it is not"
    yield ~scored & ~reasoned, "the status is '{status}', but there is no reason"
    unknown, caused = _true(pc.equal(table["status"], "unknown")), _true(pc.is_valid(table["cause"]))
    yield unknown & ~caused, "the status is 'unknown', but there is no cause"
    yield ~unknown & caused, "the cause is '{cause}', but the status is '{status}'"
    yield scored & anatomy & ~judged, "the status is 'scored', but is_error is missing"
    yield ~scored & judged, "is_error is {is_error}, but the status is '{status}'"


def _images(table: pa.Table, roles: Mapping[str, Role], whole: bool) -> Iterator[Broken]:
    import numpy as np

    names = list(roles)
    if not len(table) or not names:
        return
    images = _codes(table["image"])
    scorers = _codes(table["scorer"])
    place = np.arange(len(images))
    first = np.empty(images.max() + 1, dtype=np.int64)
    first[images[::-1]] = place[::-1]
    cells = images * (scorers.max() + 1) + scorers
    seen = np.empty(cells.max() + 1, dtype=np.int64)
    seen[cells[::-1]] = place[::-1]
    yield seen[cells] != place, "the image {image} has another row of the scorer {scorer}"
    for name in OF_IMAGE:
        own = _codes(table[name])
        yield own != own[first[images]], f"{name} is {{{name}}}, but not in the first row of the image {{image}}"
    if whole:
        few = np.bincount(images) < len(names)
        yield few[images], "the image {image} does not have a row of every scorer ({known})"


def _findings(lists: pa.ListArray) -> Iterator[Broken]:
    import numpy as np
    import pyarrow.compute as pc

    flat, parents = pc.list_flatten(lists), pc.list_parent_indices(lists).to_numpy()

    def rows(broken: Any) -> Any:
        return np.bincount(parents[broken], minlength=len(lists)) > 0

    one = {name: pc.struct_field(flat, name) for name in ("region", "kind", "detail", "score", "box", "keypoints")}
    for name, known in (("region", get_args(Region)), ("kind", get_args(Kind))):
        yield rows(_outside(one[name], known) | _true(pc.is_null(one[name]))), f"a finding has an unknown {name}"
    yield rows(_true(pc.is_null(one["detail"]))), "a finding has no detail"
    score = one["score"].to_numpy(zero_copy_only=False)
    yield rows(~((score >= 0) & (score <= 1))), "a finding has a score that is not in 0 to 1"
    yield rows(_not_lists_of(4, one["box"])), "a finding has a box that is not four numbers"
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


def _codes(column: pa.ChunkedArray) -> Any:
    """Values as whole numbers (n,), from 0 on; a missing value is one of them."""
    import pyarrow.compute as pc

    encoded = pc.dictionary_encode(column.combine_chunks(), null_encoding="encode")
    return encoded.indices.to_numpy().astype("int64")


def _true(mask: Any) -> Any:
    """A column of booleans as numpy's (n,), where a missing one is False."""
    import pyarrow.compute as pc

    return pc.fill_null(mask, False).to_numpy(**({} if hasattr(mask, "num_chunks") else {"zero_copy_only": False}))
