"""Depthwise convolutions whose gradients take the quick paths of oneDNN on a CPU.

Two of the library's backward passes are slow in bfloat16: the weight gradient of kernels larger than 3 x 3, and the input
gradient of strided layers. The first is put together from 3 x 3 windows, which tile a larger kernel; the second is a
stride-1 convolution of the gradient, spread out with zeros between, with the turned kernel. The numbers are the same. In
float32 the library is quicker (2 to 8 times at input gradients), but for weights of small maps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, pad_same
from torch import nn

WINDOW = 3  # side of the kernels that oneDNN is quick at
SMALL = 12  # px, side of the maps up to which windows are quicker in float32, too (2 times at 4 to 12 px, half as quick at 16)
CONVOLUTION_BACKWARD = torch.ops.aten.convolution_backward


def starts(size: int) -> list[int]:
    """Return where windows of 3 must start to cover a kernel side; the last two may overlap."""
    return sorted({min(i, size - WINDOW) for i in range(0, size, WINDOW)})


def _layout(x: torch.Tensor) -> torch.memory_format:
    return torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format


def weight_gradient(x: torch.Tensor, grad: torch.Tensor, weight: torch.Tensor, stride: int, padding: int) -> torch.Tensor:
    """Return the gradient (C, 1, k, k) of a depthwise weight from inputs (B, C, H, W) and output gradients (B, C, h, w)."""
    size, channels = weight.shape[-1], x.shape[1]
    fixed = ([channels], [stride] * 2, [0, 0], [1, 1], False, [0, 0], channels, [False, True, False])
    x = F.pad(x, (padding,) * 4)
    height, width = ((n - 1) * stride + WINDOW for n in grad.shape[-2:])  # what a window sees of the input
    some, out = weight[..., :WINDOW, :WINDOW].contiguous(), torch.empty_like(weight)
    for i in starts(size):
        for j in starts(size):
            seen = x[:, :, i : i + height, j : j + width].contiguous(memory_format=_layout(x))
            out[..., i : i + WINDOW, j : j + WINDOW] = CONVOLUTION_BACKWARD(grad, seen, some, *fixed)[1]
    return out


def input_gradient(grad: torch.Tensor, weight: torch.Tensor, shape: torch.Size, stride: int, padding: int) -> torch.Tensor:
    """Return the gradient (B, C, H, W) of a depthwise layer's input of `shape` from that of its output (B, C, h, w)."""
    size, channels = weight.shape[-1], shape[1]
    rows, columns = (n + 2 * padding - size + 1 for n in shape[-2:])  # of the output, were the stride 1
    spread = grad.new_zeros(shape[0], channels, rows, columns).contiguous(memory_format=_layout(grad))
    spread[:, :, ::stride, ::stride] = grad
    return F.conv2d(spread, weight.flip(2, 3).contiguous(), None, 1, size - 1 - padding, 1, channels)


def quicker_in_windows(grad: torch.Tensor, stride: int) -> bool:
    """Tell whether `weight_gradient` is quicker than the library for an output gradient (B, C, h, w)."""
    return grad.dtype != torch.float32 or (stride == 1 and grad.shape[-1] <= SMALL)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, stride: int, padding: int):
        ctx.stride, ctx.padding = stride, padding
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, None, stride, padding, 1, x.shape[1])

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        channels, stride, padding = x.shape[1], ctx.stride, ctx.padding
        grad = grad.contiguous(memory_format=_layout(x))
        usual = ([channels], [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], channels)
        want_x, want_weight = ctx.needs_input_grad[:2]
        quick_x = want_x and stride > 1 and grad.dtype != torch.float32
        quick_weight = want_weight and weight.shape[-1] > WINDOW and quicker_in_windows(grad, stride)
        librarys = [want_x and not quick_x, want_weight and not quick_weight, False]
        grad_x = grad_weight = None
        if any(librarys):
            grad_x, grad_weight, _ = CONVOLUTION_BACKWARD(grad, x, weight, *usual, librarys)
        if quick_x:
            grad_x = input_gradient(grad, weight, x.shape, stride, padding)
        if quick_weight:
            grad_weight = weight_gradient(x, grad, weight, stride, padding)
        return grad_x, grad_weight, None, None


class QuickDepthwise(nn.Conv2d):
    """A depthwise layer with the gradients above; on other devices than the CPU the usual one."""

    usual: type[nn.Conv2d] = nn.Conv2d  # what the layer was

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if hasattr(self, "static_padding"):  # efficientnet-pytorch pads apart from the convolution
            x = self.static_padding(x)
        if self.usual is Conv2dSame:  # timm's tf_ models pad by the size of each input where they stride
            x = pad_same(x, self.kernel_size, self.stride)
        weight, kind = self.weight, x.device.type
        if kind != "cpu":
            return F.conv2d(x, weight, None, self.stride, self.padding, 1, self.groups)
        if torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
            x, weight = x.to(dtype), weight.to(dtype)
        with torch.autocast(kind, enabled=False):
            return _Depthwise.apply(x, weight, self.stride[0], self.padding[0])


def can_be_quickened(layer: nn.Module) -> bool:
    """Tell whether a layer is a depthwise convolution that gains and that `QuickDepthwise` can stand in for."""
    known = type(layer) in (nn.Conv2d, Conv2dSame) or hasattr(layer, "static_padding")
    if not (isinstance(layer, nn.Conv2d) and known and layer.groups == layer.in_channels == layer.out_channels > 1):
        return False
    square = layer.kernel_size[0] == layer.kernel_size[1] and layer.stride[0] == layer.stride[1]
    plain = layer.bias is None and layer.padding_mode == "zeros" and layer.dilation == (1, 1) and layer.padding != "same"
    padded = isinstance(layer.padding, tuple) and layer.padding[0] == layer.padding[1] < layer.kernel_size[0]
    return square and plain and padded and (layer.kernel_size[0] > WINDOW or layer.stride[0] > 1)


def quicken(network: nn.Module) -> int:
    """Give every depthwise layer that gains the quick gradients; weights and their names stay. Returns how many."""
    layers = [layer for layer in network.modules() if can_be_quickened(layer)]
    for layer in layers:
        layer.usual = type(layer)
        layer.__class__ = QuickDepthwise
    return len(layers)


def restore(network: nn.Module) -> int:
    """Undo `quicken`, to compare with. Returns how many layers are as they were."""
    layers = [layer for layer in network.modules() if isinstance(layer, QuickDepthwise)]
    for layer in layers:
        layer.__class__ = layer.usual
    return len(layers)
