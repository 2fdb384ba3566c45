"""Activations of a TensorFlow Lite net that its file does not name as outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hafbench.detectors.nets import Net
from hafbench.detectors.taps import TapNet

HAND_NET = Path(__file__).parents[2] / "shared" / "weights" / "mediapipe" / "hand_landmark_full.tflite"
pytestmark = pytest.mark.skipif(not HAND_NET.is_file(), reason="no ../shared/weights here")
PRESENCE, LOGIT, LAST = 164, 163, 158  # tensors of the file: an output, what its logistic is of, the last convolution


def crop(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((224, 224, 3), dtype=np.float32)


def test_an_output_read_as_a_tap_is_that_output() -> None:
    _, presence, _, _ = Net(HAND_NET)(crop(0))
    tapped = TapNet(HAND_NET, (LAST, PRESENCE))(crop(0))[1]
    assert tapped == pytest.approx(presence)


def test_an_inner_activation_is_what_the_outputs_are_made_of() -> None:
    last, logit, presence = TapNet(HAND_NET, (LAST, LOGIT, PRESENCE))(crop(1))
    assert last.shape == (7, 7, 1152)
    assert last.min() >= 0 and last.max() <= 6  # after a ReLU6
    assert 1 / (1 + np.exp(-logit)) == pytest.approx(presence, abs=1e-6)


def test_what_comes_between_changes_nothing() -> None:
    net = TapNet(HAND_NET, (LAST,))
    (first,) = (tap.copy() for tap in net(crop(2)))
    net(crop(3))
    assert np.array_equal(net(crop(2))[0], first)


def test_more_tensors_than_outputs_are_refused() -> None:
    with pytest.raises(ValueError, match="5 tensors of a net with 4 outputs"):
        TapNet(HAND_NET, (1, 2, 3, 4, 5))
