"""The quick depthwise gradients against the library's own."""

import copy

import pytest
import torch
from torch import nn

from utils.config import ModelConfig
from utils.learn.fast_depthwise import QuickDepthwise, can_be_quickened, quicken, restore, starts
from utils.learn.models import create_model

LAYERS = [(8, 14, 3, 2), (8, 13, 3, 2), (6, 12, 5, 1), (6, 13, 5, 2), (4, 17, 7, 2), (4, 9, 9, 1)]


@pytest.mark.parametrize("size", [3, 4, 5, 6, 7, 9])
def test_windows_cover_the_kernel(size):
    covered = {i + k for i in starts(size) for k in range(3)}
    assert covered == set(range(size))


@pytest.mark.parametrize(("channels", "side", "size", "stride"), LAYERS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_the_librarys(channels, side, size, stride, layout):
    torch.manual_seed(0)
    usual = nn.Conv2d(channels, channels, size, stride, size // 2, groups=channels, bias=False).double()
    quick = copy.deepcopy(usual)
    assert quicken(quick) == 1
    x = torch.randn(3, channels, side, side, dtype=torch.double).contiguous(memory_format=layout)
    one, two = (x.clone().requires_grad_() for _ in range(2))
    y, z = usual(one), quick(two)
    assert torch.equal(y, z)
    away = torch.randn_like(y)
    y.backward(away), z.backward(away)
    torch.testing.assert_close(two.grad, one.grad)
    torch.testing.assert_close(quick.weight.grad, usual.weight.grad)
    assert torch.autograd.gradcheck(quick, x[:1, :, :7, :7].clone().requires_grad_())


def test_networks_keep_their_outputs_names_and_gradients():
    config = ModelConfig(px=32)
    for name, least in (("efficientnet-b0", 8), ("efficientnet-lite0", 8), ("resnet18", 0)):
        quick = create_model(name, config, 0)
        usual = copy.deepcopy(quick)
        assert restore(usual) >= least
        assert not any(isinstance(layer, QuickDepthwise) for layer in usual.modules())
        assert quick.state_dict().keys() == usual.state_dict().keys()
        x = torch.rand(2, 3, 32, 32)
        for network in (quick.eval(), usual.eval()):
            network.zero_grad()
            network(x).square().sum().backward()
        for one, two in zip(quick.parameters(), usual.parameters(), strict=True):
            if one.grad is not None:
                torch.testing.assert_close(one.grad, two.grad, rtol=1e-3, atol=1e-5)


def test_layers_that_cannot_be_stood_in_for_stay():
    class Padded(nn.Conv2d):  # somebody's layer that may do anything
        pass

    refused = [
        nn.Conv2d(8, 8, 5, padding=2, groups=8), nn.Conv2d(8, 8, 5, padding=2, groups=4, bias=False),
        nn.Conv2d(8, 16, 5, padding=2, groups=8, bias=False), nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.Conv2d(8, 8, 5, padding="same", groups=8, bias=False), Padded(8, 8, 5, padding=2, groups=8, bias=False),
        nn.Conv2d(8, 8, 5, padding=4, dilation=2, groups=8, bias=False), nn.Linear(3, 3),
    ]  # fmt: skip
    assert not any(can_be_quickened(layer) for layer in refused)
    assert can_be_quickened(nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False))
