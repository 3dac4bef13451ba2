import torch
from torch import nn

from simulacra.nn.residual_mlp import ResidualMLP, VectorBlock
from simulacra.training.seeding import seeded


def test_vectors_time_and_condition_all_matter_and_rows_are_independent() -> None:
    with seeded(0):
        net = ResidualMLP(3, width=16, blocks=2, condition_dim=4)
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.2)
        x, clock, told = torch.randn(5, 3), torch.rand(5), torch.randn(5, 4)
    out = net(x, clock, told)
    assert out.shape == (5, 3)
    torch.testing.assert_close(net(x[1:2], clock[1:2], told[1:2]), out[1:2])
    others = [net(x + 0.1, clock, told), net(x, clock * 0.9, told), net(x, clock, told + 0.1), net(x, clock)]
    assert all((other - out).abs().max() > 1e-3 for other in others)


def test_it_begins_with_the_answer_zero_and_its_blocks_as_the_identity() -> None:
    x = torch.ones(2, 3)
    assert (ResidualMLP(3, width=8)(x, torch.zeros(2)) == 0).all()
    assert torch.equal(VectorBlock(3, told=4)(x, torch.ones(2, 4)), x)
