"""`asap-train schema`: the JSON schemas of what asap-train reads and writes."""

from __future__ import annotations

from hafbench.cli.schema import Name, print_schema


def schema(name: Name = None) -> None:
    """Print a JSON schema of what asap-train reads and writes; without a name, list the names."""
    from asap_train.schemas import SCHEMAS

    print_schema(name, SCHEMAS)
