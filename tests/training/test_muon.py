"""Muon: singular values, and torch's own as the reference."""

import pytest
import torch

from simulacra.training.muon import Muon, orthogonalised
from simulacra.training.seeding import seeded


@pytest.mark.parametrize("shape", [(6, 6), (24, 6), (6, 24)])
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, int]) -> None:
    with seeded(0):
        matrices = torch.randn(3, *shape)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    found = orthogonalised(matrices).float()
    turned = u.mT @ found @ v.mT
    values = turned.diagonal(dim1=1, dim2=2)
    assert found.shape == matrices.shape and values.min() > 0.6 and values.max() < 1.3
    torch.testing.assert_close(turned, torch.diag_embed(values), atol=0.03, rtol=0)


def test_nothing_stays_nothing() -> None:
    assert not orthogonalised(torch.zeros(1, 4, 3)).any()


def test_it_moves_as_torchs_own_does() -> None:
    """Matrices of two shapes, one of them twice, over steps with decay; both round to bf16."""
    with seeded(0):
        start = [torch.randn(shape) for shape in ((8, 5), (4, 9), (8, 5))]
        gradients = [[torch.randn_like(each) for each in start] for _ in range(4)]
    moved = []
    for make in (
        lambda matrices: Muon(matrices, 0.1, weight_decay=0.3),
        lambda matrices: torch.optim.Muon(matrices, 0.1, weight_decay=0.3, adjust_lr_fn="match_rms_adamw"),
    ):
        matrices = [each.clone().requires_grad_() for each in start]
        optimizer = make(matrices)
        for step in gradients:
            for matrix, gradient in zip(matrices, step, strict=True):
                matrix.grad = gradient.clone()
            optimizer.step()
        moved.append(torch.cat([matrix.detach().flatten() for matrix in matrices]))
    ours, theirs = moved
    path = (theirs - torch.cat([each.flatten() for each in start])).norm()
    assert ((ours - theirs).norm() / path).item() < 0.01


def test_a_matrix_without_a_gradient_stays() -> None:
    still, moving = (torch.ones(3, 3, requires_grad=True) for _ in range(2))
    moving.grad = torch.eye(3)
    Muon([still, moving], 0.1, weight_decay=0.5).step()
    assert torch.equal(still, torch.ones(3, 3)) and not torch.equal(moving, torch.ones(3, 3))
