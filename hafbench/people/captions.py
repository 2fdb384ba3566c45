"""What a scene of the second built-in world shows, in a sentence as image captions have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hafbench.people.body import random_attributes

if TYPE_CHECKING:
    from hafbench.people.scene import Scene

GESTURES = {
    "open": "open, the fingers stretched",
    "spread": "with the fingers spread wide",
    "together": "flat, the fingers held together",
    "relaxed": "relaxed, the fingers slightly bent",
    "fist": "closed to a fist",
    "one": "with the index finger raised",
    "two": "making a victory sign with two fingers",
    "three": "showing three fingers",
    "four": "showing four fingers",
    "thumb_up": "giving a thumbs up",
    "gun": "pointing with thumb and index finger stretched",
    "horns": "making the sign of the horns",
    "call": "making a call me gesture",
    "love": "making the I love you sign",
    "pinch": "pinching thumb and index finger together",
    "ok": "making an OK sign",
    "purse": "with all fingertips brought together",
    "claw": "bent to a claw",
    "cup": "holding a cup",
    "ball": "holding a ball",
    "stick": "holding a stick",
    "phone": "holding a phone",
}
POSES = {
    "arms_up": "with both arms raised",
    "arms_out": "with the arms stretched out to the sides",
    "hands_on_hips": "with the hands on the hips",
    "one_hand_on_hip": "with one hand on the hip",
    "pointing_aside": "pointing to the side",
    "showing": "showing the palm of a hand",
    "showing_both": "showing both palms",
    "offering": "offering something with both hands",
    "handshake": "reaching out for a handshake",
    "thumb_up": "giving a thumbs up",
    "hand_on_cheek": "with a hand on the cheek",
    "hand_on_chest": "with a hand on the chest",
    "lunging": "in a lunge with an arm raised",
    "victory": "with an arm raised in victory",
}
"""Of postures whose names do not say it, such as `walking` does."""
SETTINGS = {
    "panorama": "a blurred background",
    "plain": "a plain background",
    "gradient": "a plain studio background",
    "wall": "a wall behind",
}


def caption(scene: Scene) -> str:
    """A sentence about the person, what the person does and what is behind; it names no error."""
    attributes = random_attributes(np.random.default_rng([scene.seed, 1]))
    age = "a young" if attributes.years < 0.25 else "an elderly" if attributes.years > 0.65 else "a"
    who = f"{age} {'woman' if attributes.sex == 'female' else 'man'}"
    behind = SETTINGS[scene.background.setting]
    if scene.view == "hand":
        side = "left" if scene.side == "L" else "right"
        gesture = GESTURES.get(scene.gesture, scene.gesture.replace("_", " "))
        return f"a photo of the {side} hand of {who}, {gesture}, {behind}"
    return f"a photo of {who} in {_dress(attributes.outfit)}, {POSES.get(scene.pose, scene.pose)}, {behind}"


def _dress(outfit: str) -> str:
    for word, dress in (("elegant", "elegant clothes"), ("work", "work clothes"), ("sport", "sports clothes")):
        if word in outfit:
            return dress
    return "casual clothes"
