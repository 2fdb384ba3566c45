"""What a package exports, imported when it is first asked for: so that `import hafbench` stays cheap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def exported(package: str, public: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The module-level `__getattr__` (PEP 562) of a package whose `public` names stand by their modules."""
    homes = {name: module for module, names in public.items() for name in names}

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(import_module(homes[name]), name)

    return get
