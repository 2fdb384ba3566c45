"""A backbone: a Stable Diffusion 3 with uniform timesteps, of another pipeline."""

from asap_train.backbones import BackboneEntry


def load(loaded):
    from asap_train.backbones.sd3 import StableDiffusion3

    class Uniform(StableDiffusion3):
        def draw_timesteps(self, uniform, grid=None):
            return 1000 * uniform

    return Uniform(loaded)


LOADER, DEFAULTS = f"{__name__}:load", {"learning_rate": 1e-3}
ENTRY = BackboneEntry("TinyPipeline", "uniform timesteps", LOADER, defaults=DEFAULTS)
