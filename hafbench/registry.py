"""One lazy registry for every kind of component: a table of built-in rows, and entry points of other packages.

A row names its loader and its `Options` as `module:attribute`; neither module is imported before the component is asked
for. Another package adds a row by an entry point of the registry's group that leads to an `Entry` (docs/extending.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from hafbench.errors import HafError, nearest, one_line

Home = Literal["photographs", "mannequins"]
"""What a component is made for: photographs, or pictures of the built-in world."""


class Options(BaseModel):
    """The settings of one component; each component with settings subclasses it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def home_defaults(cls, home: Home) -> Mapping[str, Any]:
        """The defaults that differ where pictures are of `home`."""
        return {}

    @property
    def home(self) -> Home | None:
        """What the component is made for with these settings; None if they do not decide it."""
        return None


@dataclass(frozen=True)
class Entry:
    """One row: `about` is a line for lists, `loader` and `options` are `module:attribute`."""

    name: str
    about: str
    loader: str
    options: str | None = None

    def load(self) -> Any:
        """Import the loader; raises HafError if it is not there."""
        return _resolve(self.loader, self.name)

    @property
    def options_model(self) -> type[Options]:
        """The class of the component's settings."""
        if self.options is None:
            return Options
        model: type[Options] = _resolve(self.options, self.name)
        return model


def _resolve(path: str, name: str) -> Any:
    module, _, attribute = path.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise HafError(f"{name} cannot be loaded from {path} ({one_line(error)}).") from error


E = TypeVar("E", bound=Entry)


class Registry(Generic[E]):
    """The components of one kind by name: the built-in ones in the order of their table, then those of other packages.

    `kind` is the word for one of them in messages, `group` the group of entry points.
    """

    def __init__(self, kind: str, group: str, entry_type: type[E], rows: Iterable[E]) -> None:
        self.kind, self.group = kind, group
        self._entry_type = entry_type
        self.built_in: dict[str, E] = {row.name: row for row in rows}

    @cached_property
    def _outside(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=self.group):
            if point.name in self.built_in or point.name in found:
                raise HafError(
                    f"{_package(point)} adds the {self.kind} '{point.name}', but another component has this name; "
                    "rename its entry point or uninstall it."
                )
            found[point.name] = point
        return found

    def names(self) -> list[str]:
        """All names; nothing is imported."""
        return [*self.built_in, *self._outside]

    def __iter__(self) -> Iterator[E]:
        """All rows; the entry points of other packages are imported."""
        return (self.get(name) for name in self.names())

    def get(self, name: str) -> E:
        """The row of that name; raises HafError if there is none, or if another package's cannot be imported."""
        if name in self.built_in:
            return self.built_in[name]
        if name not in self._outside:
            raise HafError(f"There is no {self.kind} '{name}': {nearest(name, self.names())}")
        point = self._outside[name]
        try:
            entry = point.load()
        except Exception as error:
            raise HafError(f"The {self.kind} '{name}' of {_package(point)} cannot be imported: {error}.") from error
        if not isinstance(entry, self._entry_type) or entry.name != name:
            raise HafError(
                f"The entry point '{name}' of {_package(point)} is not a {self._entry_type.__name__} of that name."
            )
        return entry


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value
