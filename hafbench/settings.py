"""Typed settings: what a spec is, and how it is read from YAML, from KEY=VALUE texts and from a command's options."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from hafbench.errors import HafError, first_problem, nearest, one_line
from hafbench.files import read_whole
from hafbench.registry import Home, Options, Registry

MOST_VALUES = 100_000
"""In a file of settings."""

KeyPath = tuple[str, ...]
"""A place in nested settings: `scorers.limbs.pose` as ("scorers", "limbs", "pose")."""


class Spec(BaseModel):
    """Settings: immutable, and without unknown fields. `ALIASES` has the fields by other names that people try."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ALIASES: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def with_defaults(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """What was given, with those defaults that depend on it."""
        return given

    @classmethod
    def default_components(cls, given: Mapping[str, Any], place: KeyPath) -> Sequence[str] | None:
        """The names of the components that stand at a place where none are given; None for other places."""
        return None


class ComponentSpec(Spec):
    """A component of a registry by its name, with its options; a bare name has the options' defaults."""

    registry: ClassVar[Registry[Any]]

    name: str
    options: SerializeAsAny[Options] = Field(default_factory=Options, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("options", mode="plain")
    @classmethod
    def _own_options(cls, value: Any, info: ValidationInfo) -> Options:
        name = info.data.get("name", "")
        model: type[Options] = cls.registry.get(name).options_model
        if isinstance(value, Options):
            value = value.model_dump(exclude_unset=True)
        try:
            return model.model_validate(value or {})
        except ValidationError as error:
            raise HafError(f"{cls.registry.kind} {name}: {problem(error, model)}") from error

    def at_home(self, home: Home) -> Self:
        """With all options set: to what was given, or to that home's defaults."""
        own = self.options
        values = {**own.model_dump(), **own.home_defaults(home), **own.model_dump(exclude_unset=True)}
        return self.model_copy(update={"options": type(own).model_validate(values)})


def names_and_options(value: Any) -> dict[str, Any]:
    """Components, given as a mapping, as a list of names and components, or as a text with commas, as a mapping."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",") if name.strip()]
    if not isinstance(value, Sequence) or not all(isinstance(one, str | Mapping | ComponentSpec) for one in value):
        raise ValueError("give a list of names, or a mapping of names to options")
    found: dict[str, Any] = {}
    for one in value:
        one = {"name": one} if isinstance(one, str) else one
        name, options = (
            (one.name, one.options) if isinstance(one, ComponentSpec) else (str(one.get("name")), one.get("options"))
        )
        if name in found:
            raise ValueError(f"'{name}' is there twice")
        found[name] = options
    return found


def _as_list(value: Any) -> Any:
    if value is None:
        return None
    return tuple({"name": name, "options": options or {}} for name, options in names_and_options(value).items())


def _as_mapping(value: Sequence[ComponentSpec] | None) -> dict[str, Any] | None:
    return (
        None if value is None else {one.name: one.options.model_dump(mode="json", exclude_unset=True) for one in value}
    )


C = TypeVar("C", bound=ComponentSpec)
Components = Annotated[tuple[C, ...], BeforeValidator(_as_list), PlainSerializer(_as_mapping)]
"""Several components: written as a mapping of names to options, read from that or from a list of names."""

S = TypeVar("S", bound=Spec)
M = TypeVar("M", bound=BaseModel)


def read_settings(
    kind: type[S],
    file: Path | None = None,
    overrides: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
) -> S:
    """The settings of a YAML file, then `overrides` (KEY=VALUE, the value as YAML), then a command's `options`.

    Keys are paths, such as `scorers.limbs.pose`; of `options` those that are None were not given. Raises HafError, with
    the file and the key, for a key that is unknown and a value that cannot be.
    """
    given = given_settings(kind, file, overrides, options)
    return parse_settings(kind, given, str(file) if file else "The settings")


def given_settings(
    kind: type[Spec],
    file: Path | None = None,
    overrides: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What `read_settings` reads, as plain values: without defaults, and not checked yet."""
    given = _read_yaml(file) if file else {}
    asked = [(*parse_override(text), f"--set {text}") for text in overrides]
    asked += [
        (tuple(key.split(".")), value, f"The option for {key}")
        for key, value in (options or {}).items()
        if value is not None
    ]
    # The model first, whose defaults the others begin with; then short keys: components before their options.
    for path, value, where in sorted(asked, key=lambda one: (one[0][0] != "model", len(one[0]))):
        _put(kind, given, path, value, where)
    return given


def parse_settings(kind: type[M], values: Any, where: str) -> M:
    """Plain values as settings or options; raises HafError that begins with `where`."""
    try:
        if issubclass(kind, Spec) and isinstance(values, Mapping):
            values = kind.with_defaults(values)
        return kind.model_validate(values)
    except ValidationError as error:
        raise HafError(f"{where}: {problem(error, kind)}") from error
    except HafError as error:
        raise type(error)(f"{where}: {error}") from error


def parse_override(text: str) -> tuple[KeyPath, Any]:
    """`loss.alpha=5` as (("loss", "alpha"), 5); the value is YAML."""
    key, equals, value = text.partition("=")
    path = tuple(key.split("."))
    if not equals or not all(part.isidentifier() for part in path):
        raise HafError(
            f"--set {text}: write KEY=VALUE, for example --set seeds=4 or --set scorers.clip.model=ViT-L-14."
        )
    try:
        return path, parse_yaml(value)
    except ValueError as error:
        raise HafError(f"--set {text[:200]}: the value cannot be read as YAML ({one_line(error)}).") from error


def parse_yaml(text: str) -> Any:
    """The value of a YAML text; raises ValueError for what is not YAML, or has more than MOST_VALUES."""
    try:
        value = yaml.safe_load(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    except Exception as error:  # PyYAML lets through whatever its constructors raise
        raise ValueError(one_line(error)) from error
    # An alias costs a few letters and stands for a whole tree, or for the tree that it is in.
    todo, seen = [value], 0
    while todo:
        seen += 1
        if seen > MOST_VALUES:
            raise ValueError(f"it holds more than {MOST_VALUES:,} values")
        one = todo.pop()
        todo += [*one, *one.values()] if isinstance(one, dict) else one if isinstance(one, list) else []
    return value


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = parse_yaml(read_whole(path).decode("utf-8"))
    except OSError as error:
        raise HafError(f"{path} cannot be read ({error.strerror or one_line(error)}).") from error
    except ValueError as error:
        raise HafError(f"{path} cannot be read as YAML ({one_line(error)}).") from error
    if not isinstance(values, dict):
        raise HafError(f"{path}: settings are lines of KEY: VALUE, such as `seeds: 4`.")
    return values


def _put(kind: type[Spec], given: dict[str, Any], path: KeyPath, value: Any, where: str) -> None:
    """Set the value at `path`, within nested settings and within the options of components."""
    place = given
    for depth, part in enumerate(path[:-1], 1):
        before = place.get(part)
        default = kind.default_components(given, path[:depth])
        if default is not None:
            try:
                before = names_and_options(before if before is not None else default)
            except ValueError as error:
                raise HafError(f"{where}: {part}: {error}.") from error
            if path[depth] not in before:
                among = ", ".join(before) or "none"
                raise HafError(f"{where}: {path[depth]} is not among the {part} ({among}); name it in {part}, too.")
        elif isinstance(before, str) and part in kind.model_fields:
            before = {part: before}  # the short form, such as `model: sdxl`
        elif before is not None and not isinstance(before, Mapping):
            raise HafError(f"{where}: {'.'.join(path[:depth])} is {before!r}, which has no settings within it.")
        place[part] = before = dict(before or {})
        place = before
    place[path[-1]] = value


def problem(error: ValidationError, kind: type[BaseModel]) -> str:
    """The first complaint of a ValidationError, with the key that was likely meant, and its full stop."""
    first = error.errors()[0]
    if first["type"] != "extra_forbidden":
        return f"{first_problem(error)}."
    *path, key = (str(part) for part in first["loc"])
    owner = _model_at(kind, path)
    aliases: Mapping[str, str] = getattr(owner, "ALIASES", {})
    name = ".".join([*path, key])
    if key in aliases:
        return f"{name} is called {'.'.join([*path, aliases[key]])}."
    return f"there is no setting '{name}'; {nearest(key, list(owner.model_fields))}"


def _model_at(kind: type[BaseModel], path: Iterable[str]) -> type[BaseModel]:
    for part in path:
        field = kind.model_fields.get(part)
        inner = [] if field is None else [field.annotation, *get_args(field.annotation)]
        found = next((one for one in inner if inspect.isclass(one) and issubclass(one, BaseModel)), None)
        if found is None:
            break
        kind = found
    return kind
