"""A backbone: a Stable Diffusion 3 whose timesteps are uniform, under the name of another pipeline."""

from asap_train.backbones import BackboneEntry


def load(loaded):
    from asap_train.backbones.sd3 import StableDiffusion3

    class Uniform(StableDiffusion3):
        def draw_timesteps(self, uniform, grid=None):
            return 1000 * uniform

    return Uniform(loaded)


ENTRY = BackboneEntry("TinyPipeline", "uniform timesteps", f"{__name__}:load", defaults={"learning_rate": 1e-3})
