"""Imported once by the fork server of the tests of fits: all that a fit of a tiny model needs."""

import bitsandbytes  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import torch
import transformers.models.clip.modeling_clip
import transformers.models.t5.modeling_t5  # noqa: F401
from diffusers import StableDiffusion3Pipeline  # noqa: F401
from diffusers.training_utils import EMAModel  # noqa: F401

import asap_train.backbones.sd3
import asap_train.training.fit_plots
import asap_train.training.trainer  # noqa: F401
import fits  # noqa: F401

torch.set_num_threads(1)
