"""Imported once by the fork server of test_kill.py: all that a run of a tiny FLUX needs, so that it starts at once."""

import bitsandbytes  # noqa: F401
import pyiqa  # noqa: F401
import transformers.models.clip.modeling_clip
import transformers.models.t5.modeling_t5  # noqa: F401

import hafbench.api
import hafbench.generators
import hafbench.scorers.iqa  # noqa: F401
