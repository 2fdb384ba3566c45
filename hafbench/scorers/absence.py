"""What it means that a scorer finds nothing to judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hafbench.suites import Prompt
    from hafbench.types import Cause


def unseen(prompt: Prompt | None, *names: str) -> Cause:
    """What it means that a scorer finds nothing to judge: unjudgeable if the prompt says that it should be in view.

    `names` are fields of `Expect`, or tags. Without a prompt, or where it does not say, nothing is taken to be there.
    """
    if prompt and any(getattr(prompt.expect, name, None) or name in prompt.tags for name in names):
        return "unjudgeable"
    return "absent"
