"""The optimizer that trained the built-in world, against torch's own."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

RECIPES = Path(__file__).parents[1] / "recipes" / "mannequin"


@pytest.fixture(scope="module")
def muon() -> ModuleType:
    spec = importlib.util.spec_from_file_location("muon", RECIPES / "muon.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def weights(*shapes: tuple[int, ...]) -> list[torch.nn.Parameter]:
    dice = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=dice)) for shape in shapes]


def follow(optimizer: torch.optim.Optimizer, own: list[torch.nn.Parameter]) -> None:
    dice = torch.Generator().manual_seed(1)
    for _ in range(3):
        for weight in own:
            weight.grad = torch.randn(weight.shape, generator=dice)
        optimizer.step()


def test_matrices_move_as_by_torchs_muon_and_the_rest_as_by_its_adamw(muon: ModuleType) -> None:
    shapes = ((24, 60), (60, 24), (24, 60))
    ours, theirs = weights(*shapes), weights(*shapes)
    follow(muon.MuonAdamW(ours, [], lr=0.02, weight_decay=0.1), ours)
    follow(torch.optim.Muon(theirs, 0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"), theirs)
    for one, other, before in zip(ours, theirs, weights(*shapes), strict=True):
        # torch computes in bfloat16, of 8 bits: the ways differ by a hundredth or two of their length.
        assert (one - other).norm() < 0.03 * (other - before).norm()
    ours, theirs = weights((7,), (3, 5)), weights((7,), (3, 5))
    follow(muon.MuonAdamW([], ours, lr=0.02, weight_decay=0.1), ours)
    follow(torch.optim.AdamW(theirs, 0.02, betas=(0.9, 0.99), weight_decay=0.1), theirs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_a_filter_is_the_matrix_of_its_rows(muon: ModuleType) -> None:
    filters, flat = weights((16, 6, 3, 3)), weights((16, 54))
    follow(muon.MuonAdamW(filters, [], lr=0.02, weight_decay=0), filters)
    follow(muon.MuonAdamW(flat, [], lr=0.02, weight_decay=0), flat)
    torch.testing.assert_close(filters[0].flatten(1), flat[0])


def test_training_goes_on_from_a_saved_state_as_if_it_had_not_stopped(muon: ModuleType) -> None:
    shapes = ((8, 12), (5,))
    straight, stopped = weights(*shapes), weights(*shapes)
    one = muon.MuonAdamW(straight[:1], straight[1:], lr=0.02, weight_decay=0.1)
    other = muon.MuonAdamW(stopped[:1], stopped[1:], lr=0.02, weight_decay=0.1)
    follow(one, straight)
    follow(other, stopped)
    resumed = muon.MuonAdamW(stopped[:1], stopped[1:], lr=0.02, weight_decay=0.1)
    resumed.load_state_dict(other.state_dict())
    follow(one, straight)
    follow(resumed, stopped)
    for a, b in zip(straight, stopped, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
