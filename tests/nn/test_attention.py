import torch
from torch.nn import functional as F

from simulacra.nn.attention import ChannelNorm, SelfAttention
from simulacra.training.seeding import seeded


def test_attention_is_torch_s_of_pixels_as_tokens() -> None:
    with seeded(0):
        layer = SelfAttention(8, heads=2)
        torch.nn.init.normal_(layer.out.weight)
        x = torch.randn(3, 8, 4, 5)
    tokens = layer.norm(x.flatten(2).transpose(1, 2))
    q, k, v = layer.qkv(tokens).chunk(3, dim=2)
    heads = (part.unflatten(2, (2, 4)).transpose(1, 2) for part in (q, k, v))
    seen = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    expected = x + layer.out(seen).transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(layer(x), expected)


def test_attention_begins_as_the_identity_and_minds_no_memory_format() -> None:
    layer, x = SelfAttention(4, heads=1), torch.linspace(-1, 1, 2 * 4 * 9).reshape(2, 4, 3, 3)
    assert torch.equal(layer(x), x)
    torch.nn.init.ones_(layer.out.weight)
    torch.testing.assert_close(layer(x.to(memory_format=torch.channels_last)), layer(x))


def test_channel_norm_makes_each_pixel_s_channels_mean_0_and_variance_1() -> None:
    x = 5 + 3 * torch.linspace(-1, 1, 2 * 6 * 4).reshape(2, 6, 2, 2) ** 3
    found = ChannelNorm(6)(x)
    torch.testing.assert_close(found.mean(1), torch.zeros(2, 2, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.var(1, correction=0), torch.ones(2, 2, 2), atol=1e-3, rtol=0)
