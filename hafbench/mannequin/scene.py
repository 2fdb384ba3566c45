"""A scene: everything a picture shows, as one value. `random_scene` draws a correct one from a seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hafbench.mannequin import attributes as words
from hafbench.mannequin.attributes import Arms, Attributes, Colour, Framing, Held, Setting, Skin, View
from hafbench.mannequin.backgrounds import RGB
from hafbench.mannequin.figure import Clothes, Figure, figure_shapes, make_figure
from hafbench.mannequin.hand import Hand, make_hand
from hafbench.mannequin.shapes import Capsules, SkinTone, hand_shapes
from hafbench.mannequin.skeleton import Array, rotation, unit

if TYPE_CHECKING:
    from hafbench.mannequin.taxonomy import Error

SKIN_RGB: dict[Skin, tuple[float, float, float]] = {
    "very_light": (0.97, 0.86, 0.79), "light": (0.93, 0.76, 0.64), "tan": (0.81, 0.61, 0.45),
    "brown": (0.62, 0.43, 0.30), "dark": (0.44, 0.29, 0.20), "very_dark": (0.29, 0.19, 0.14),
}  # fmt: skip
HAIR_RGB: dict[Colour, tuple[float, float, float]] = {
    "black": (0.10, 0.09, 0.09), "brown": (0.33, 0.21, 0.13), "yellow": (0.86, 0.71, 0.38), "red": (0.62, 0.26, 0.13),
    "grey": (0.62, 0.62, 0.63),
}  # fmt: skip
_FRAMING_SHARES = {"hand": 0.45, "two_hands": 0.15, "upper_body": 0.15, "full_body": 0.25, "open_hand": 0.0}
"""Open hands alone are drawn where they are asked for."""
_ZOOMS: dict[Framing, tuple[float, float]] = {"hand": (0.52, 0.76), "open_hand": (0.74, 0.9)}
"""The smallest and the largest, in widths of the picture a unit."""
_HELD_COLOURS: tuple[Colour, ...] = ("red", "yellow", "blue", "green", "brown", "black")


@dataclass(frozen=True)
class Look:
    """Colours (RGB in 0..1), light (3,) towards its source with y down, and the seed of the background's details."""

    tone: SkinTone
    clothes: Clothes
    setting: Array
    sleeve: Array | None
    light: Array
    detail_seed: int


@dataclass(frozen=True)
class Scene:
    """Hands (with their forearms) or a figure, seen by a camera: turn (3, 3), centre (3,), zoom in widths a unit."""

    seed: int
    attributes: Attributes
    hands: tuple[Hand, ...]
    figure: Figure | None
    camera: tuple[Array, Array, float]
    look: Look
    forearms: tuple[Array, ...] = ()
    error: Error | None = None


T = TypeVar("T")


def _choose(rng: np.random.Generator, options: tuple[T, ...]) -> T:
    return options[int(rng.integers(len(options)))]


def random_attributes(rng: np.random.Generator, framing: Framing | None = None) -> Attributes:
    """Attributes for a framing, or for one by the usual shares; what they say is always drawn."""
    if framing is None:
        shares = [_FRAMING_SHARES[name] for name in words.FRAMINGS]
        framing = words.FRAMINGS[int(rng.choice(len(shares), p=shares))]
    skin = _choose(rng, words.SKINS)
    setting: Setting = _choose(rng, words.WALLS if framing == "open_hand" else words.SETTINGS)
    colour = None if setting == "outdoor" else _choose(rng, words.COLOURS)
    held_colour = _choose(rng, _HELD_COLOURS)
    if framing in words.HANDS:
        # An open hand is what people ask for most.
        gesture = "open" if rng.random() < 0.25 else _choose(rng, words.GESTURES)
        if framing == "open_hand" or (framing == "two_hands" and gesture == "grip"):
            gesture = "open"
        view: View = "palm" if rng.random() < 0.6 else "back"
        side = _choose(rng, words.SIDES) if framing in words.ONE_HAND else None
        grip = gesture == "grip"
        return Attributes(
            framing, skin, setting, colour, side, view, gesture,
            held="rod" if grip else "nothing", held_colour=held_colour if grip else None,
        )  # fmt: skip
    things: tuple[Held, ...] = ("ball", "rod")
    held: Held = "nothing" if rng.random() < 0.7 else _choose(rng, things)
    full = framing == "full_body"
    hair = _choose(rng, words.HAIRS)
    holding: tuple[Arms, ...] = ("out", "up", "wave")
    arms = _choose(rng, words.ARMS if held == "nothing" else holding)
    return Attributes(
        framing, skin, setting, colour,
        arms=arms, legs=_choose(rng, words.LEGS) if full else None,
        held=held, held_colour=None if held == "nothing" else held_colour,
        hair=hair, hair_colour=None if hair == "bald" else _choose(rng, tuple(HAIR_RGB)),
        top=_choose(rng, words.COLOURS), sleeves=_choose(rng, words.SLEEVES),
        bottom=_choose(rng, words.BOTTOMS) if full else None,
        bottom_colour=_choose(rng, words.COLOURS) if full else None,
    )  # fmt: skip


def _jitter(rng: np.random.Generator, rgb: tuple[float, float, float], amount: float = 0.03) -> Array:
    return np.clip(np.array(rgb) * (1 + rng.normal(0, amount)) + rng.normal(0, amount / 2, 3), 0.02, 0.98)


def _look(attributes: Attributes, rng: np.random.Generator) -> Look:
    skin = _jitter(rng, SKIN_RGB[attributes.skin])
    palm = skin + (np.array([0.90, 0.70, 0.60]) - skin) * (0.22 if skin.mean() < 0.5 else 0.12)
    tone = SkinTone(skin, palm, skin + (np.array([0.96, 0.82, 0.78]) - skin) * 0.5)
    top = _jitter(rng, RGB[attributes.top or "grey"])
    clothes = Clothes(
        top,
        _jitter(rng, RGB[attributes.bottom_colour or "blue"]),
        _jitter(rng, (0.2, 0.17, 0.16), 0.2),
        _jitter(rng, HAIR_RGB[attributes.hair_colour or "brown"]),
        _jitter(rng, RGB[attributes.held_colour or "red"]),
    )
    sleeve = _jitter(rng, RGB[_choose(rng, words.COLOURS)]) if rng.random() < 0.4 else None
    light = unit(np.array([rng.uniform(-0.7, 0.7), rng.uniform(-0.9, -0.25), rng.uniform(0.55, 0.9)]))
    setting = _jitter(rng, RGB[attributes.setting_colour or "green"])
    return Look(tone, clothes, setting, sleeve, light, int(rng.integers(2**31)))


def legible(attributes: Attributes) -> bool:
    """Whether what matters stands out: bare skin and limbs against the wall, arms against the torso."""
    if attributes.setting in ("outdoor", "indoor") or attributes.setting_colour is None:
        behind = None
    else:
        behind = np.array(RGB[attributes.setting_colour])
    skin = np.array(SKIN_RGB[attributes.skin])
    shown = [skin]
    if attributes.top is not None:
        top = np.array(RGB[attributes.top])
        shown.append(top)
        if np.abs(top - skin).sum() < 0.35:
            return False
    if attributes.bottom_colour is not None:
        shown.append(np.array(RGB[attributes.bottom_colour]))
    return behind is None or all(np.abs(behind - colour).sum() > 0.45 for colour in shown)


def _hand_scene(attributes: Attributes, rng: np.random.Generator) -> tuple[tuple[Hand, ...], tuple[Array, float]]:
    """Hands placed before the camera, and the centre and zoom that show them."""
    view = 0.0 if attributes.view == "palm" else 180.0
    gesture = attributes.gesture or "open"

    def turned(hand: Hand, x: float, lean: float) -> Hand:
        turn = rotation(2, lean) @ rotation(1, view + rng.uniform(-18, 18)) @ rotation(0, rng.uniform(-14, 14))
        return replace(hand, turn=turn, place=np.array([x, rng.uniform(-0.05, 0.05), 0.0]))

    if attributes.framing in words.ONE_HAND:
        hand = turned(make_hand(attributes.side or "right", gesture, rng), 0.0, float(rng.normal(0, 12)))
        zoom = rng.uniform(*_ZOOMS[attributes.framing])
        slack = 0.5 / zoom - 0.6
        centre = np.array(
            [rng.uniform(-1, 1) * max(0.05, slack), 0.48 + rng.uniform(-1, 1) * max(0.04, slack * 0.6), 0]
        )
        return (hand,), (centre, zoom)
    left_first = view > 0
    pairs = []
    for x, side in ((-0.53, "left" if left_first else "right"), (0.53, "right" if left_first else "left")):
        lean = -np.sign(x) * rng.uniform(2, 14) if gesture == "open" else rng.normal(0, 6)
        pairs.append(turned(make_hand(side, gesture, rng), x * rng.uniform(0.95, 1.05), float(-lean)))  # type: ignore[arg-type]
    return tuple(pairs), (np.array([0.0, 0.42, 0.0]), rng.uniform(0.43, 0.47))


def _fit_figure(figure: Figure, attributes: Attributes, turn: Array, rng: np.random.Generator) -> tuple[Array, float]:
    points = [np.array([0.0, 1.04, 0.0])]
    for limb in figure.limbs:
        if limb.kind == "arm" and limb.hand is not None:
            points += [*limb.points, *limb.hand.world(np.array([[0.0, 1.0, 0.0]]))]
        if limb.kind == "leg" and attributes.framing == "full_body":
            points += [limb.points[2] + np.array([0, -0.06, 0.0])]
    if attributes.framing == "upper_body":
        points = [p if p[1] > 0.5 else np.array([p[0], 0.5, p[2]]) for p in points] + [np.array([0.0, 0.5, 0.0])]
    seen = np.array(points) @ turn.T
    low, high = seen.min(0), seen.max(0)
    extent = max(high[0] - low[0] + 0.06, high[1] - low[1])
    fill = rng.uniform(0.72, 0.95)
    centre = (low + high) / 2
    if attributes.framing == "full_body":
        room = (1 - fill) / 2 * extent / fill
        centre = centre + np.array([rng.uniform(-1, 1), rng.uniform(-1, 0.6), 0.0]) * room
    else:
        fill = max(fill, 0.84)
    return centre @ turn, float(fill / extent)


def random_scene(
    seed: int, framing: Framing | None = None, attributes: Attributes | None = None, attempt: int = 0
) -> Scene:
    """A correct scene; the same arguments give the same scene."""
    rng = np.random.default_rng([seed, attempt])
    if attributes is None:
        attributes = random_attributes(rng, framing)
        while not legible(attributes):
            attributes = random_attributes(rng, attributes.framing)
    look = _look(attributes, rng)
    if attributes.framing in words.HANDS:
        hands, (centre, zoom) = _hand_scene(attributes, rng)
        forearms = tuple(hand.turn for hand in hands)
        return Scene(seed, attributes, hands, None, (np.eye(3), centre, zoom), look, forearms)
    figure = make_figure(attributes, rng)
    yaw = rng.uniform(-16, 16) + (rng.choice([-22, 22]) if attributes.legs == "walking" else 0)
    turn = rotation(2, rng.uniform(-3, 3)) @ rotation(0, rng.uniform(0, 8)) @ rotation(1, float(yaw))
    return Scene(seed, attributes, (), figure, (turn, *_fit_figure(figure, attributes, turn, rng)), look)


def shapes(scene: Scene) -> Capsules:
    """All that stands in the scene, as capsules."""
    capsules = Capsules()
    tone, clothes = scene.look.tone, scene.look.clothes
    for number, (hand, forearm) in enumerate(zip(scene.hands, scene.forearms, strict=True)):
        name = f"hand{number}"
        start, end = (hand.place + forearm @ np.array([0, y, 0]) * hand.scale for y in (0.04, -1.5))
        capsules.add(f"{name}.forearm", start, end, (0.10 * hand.girth, 0.15 * hand.girth), tone.skin)
        if scene.look.sleeve is not None:
            cuff = hand.place + forearm @ np.array([0, -0.22, 0])
            capsules.add(f"{name}.forearm", cuff, end, (0.135, 0.17), scene.look.sleeve)
        hand_shapes(capsules, name, hand, tone)
        if hand.gesture == "grip":
            rod = hand.world(np.array([[-0.62, 0.52, 0.17], [0.62, 0.52, 0.17]]))
            capsules.add("held", rod[0], rod[1], (0.045, 0.045), clothes.held)
    if scene.figure is not None:
        figure_shapes(capsules, scene.figure, scene.attributes, tone, clothes)
    return capsules
