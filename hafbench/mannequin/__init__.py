"""The built-in world: a renderer of hands and figures whose anatomy is known exactly, and the models trained on it."""
