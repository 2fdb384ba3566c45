"""What a fit needs of a GPU, computed without one: memory by part, settings that suit a card, time from operations.

architectures.py   the published sizes of the models that have a preset
tracing.py         tensors on the meta device: which of them live at once
depth.py           deep transformers from short ones
passes.py          a pass of a model there, with the real network and the real LoRA
profiles.py        the traces of the presets, kept in profiles.json, and of anything else when it is asked for
memory.py          bytes by part and by phase of a fit
settings.py        the best settings that a card has room for
card.py            those for the GPU of this machine
speed.py           operations of a step, and the time that they take at least
"""
