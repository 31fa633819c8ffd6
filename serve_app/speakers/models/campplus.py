"""CAM++, the network that turns speech into a voice's embedding, for the weights that 3D-Speaker published.

Wang, Zheng, Chen, Cheng and Chen 2023, "CAM++: A Fast and Efficient Network for Speaker Verification Using
Context-Aware Masking" (arXiv 2303.00332): a small residual front end over time and frequency (section 2.2),
then time-delay layers, densely connected, each masked by what its surroundings sound like (section 2.1), then
mean and deviation over time. Written here from that paper and from the layer names of 3D-Speaker's checkpoint
(https://github.com/modelscope/3D-Speaker, Copyright 3D-Speaker, Apache License 2.0).

The embedding comes out of a normalisation without an activation after it, as 3D-Speaker trained it: copies of
this network that clip it at zero lose half of what tells two voices apart.
"""

# mypy: allow-subclassing-any

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from serve_app.core.errors import ModelUnavailable

NUM_MELS = 80
NUM_DIMENSIONS = 192

_FRONT_CHANNELS = 32
_STEM_CHANNELS = 128
_GROWTH = 32
_BOTTLENECK = 128
_BLOCKS = ((12, 1), (24, 2), (16, 2))
"""Of each dense block: how many layers, and their dilation."""
_CONTEXT_FRAMES = 100
"""Half the input's rate: two seconds of speech around a frame are the context of its mask."""


class CamPlusPlus(nn.Module):
    """Log-mel frames float32 `(batch, num_frames, NUM_MELS)`, centred over time, to embeddings
    `(batch, NUM_DIMENSIONS)`; their length carries no meaning."""

    def __init__(self) -> None:
        super().__init__()
        self.head = FrontEnd()
        channels = self.head.num_channels
        self.xvector = nn.Sequential()
        self.xvector.add_module("tdnn", TimeDelay(channels, _STEM_CHANNELS))
        channels = _STEM_CHANNELS
        for number, (num_layers, dilation) in enumerate(_BLOCKS, start=1):
            self.xvector.add_module(f"block{number}", DenseBlock(channels, num_layers, dilation))
            channels += num_layers * _GROWTH
            self.xvector.add_module(f"transit{number}", Transit(channels, channels // 2))
            channels //= 2
        self.xvector.add_module("out_nonlinear", _normalised(channels))
        self.xvector.add_module("stats", Statistics())
        self.xvector.add_module("dense", Projection(2 * channels, NUM_DIMENSIONS))

    def forward(self, features: Tensor) -> Tensor:
        return self.pool(self.frames(features))

    def frames(self, features: Tensor) -> Tensor:
        """Everything before time is lost: `(batch, channels, ceil(num_frames / 2))`."""
        return self.xvector[:-2](self.head(features.transpose(1, 2)))

    def pool(self, frames: Tensor) -> Tensor:
        """The embedding of these frames, or of some of them: at least two."""
        return self.xvector[-2:](frames)


class FrontEnd(nn.Module):
    """Residual convolutions over frequency and time that shrink frequency eightfold."""

    num_channels = _FRONT_CHANNELS * (NUM_MELS // 8)

    def __init__(self) -> None:
        super().__init__()
        width = _FRONT_CHANNELS
        self.conv1 = _convolution(1, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(Residual(stride=2), Residual(stride=1))
        self.layer2 = nn.Sequential(Residual(stride=2), Residual(stride=1))
        self.conv2 = _convolution(width, width, stride=2)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, mels: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(mels.unsqueeze(1))))
        x = functional.relu(self.bn2(self.conv2(self.layer2(self.layer1(x)))))
        return x.flatten(1, 2)


class Residual(nn.Module):
    """Two convolutions and a way around them; a stride applies to frequency alone."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        width = _FRONT_CHANNELS
        self.conv1 = _convolution(width, width, stride=stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut.append(nn.Conv2d(width, width, 1, stride=(stride, 1), bias=False))
            self.shortcut.append(nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(inner + self.shortcut(x))


class TimeDelay(nn.Module):
    """The first layer over time, which halves the frame rate."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(num_in, num_out, 5, stride=2, padding=2, bias=False)
        self.nonlinear = _normalised(num_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.nonlinear(self.linear(x))


class ContextMask(nn.Module):
    """A time-delay layer whose output is masked by the mean of everything and of its own two seconds."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(
            _BOTTLENECK, _GROWTH, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.linear1 = nn.Conv1d(_BOTTLENECK, _BOTTLENECK // 2, 1)
        self.linear2 = nn.Conv1d(_BOTTLENECK // 2, _GROWTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        segments = functional.avg_pool1d(x, _CONTEXT_FRAMES, _CONTEXT_FRAMES, ceil_mode=True)
        nearby = segments.repeat_interleave(_CONTEXT_FRAMES, dim=2)[:, :, : x.shape[2]]
        context = x.mean(2, keepdim=True) + nearby
        mask = torch.sigmoid(self.linear2(functional.relu(self.linear1(context))))
        return self.linear_local(x) * mask


class DenseLayer(nn.Module):
    """One layer of a block: what it adds to its input's channels."""

    def __init__(self, num_in: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = _normalised(num_in)
        self.linear1 = nn.Conv1d(num_in, _BOTTLENECK, 1, bias=False)
        self.nonlinear2 = _normalised(_BOTTLENECK)
        self.cam_layer = ContextMask(dilation)

    def forward(self, x: Tensor) -> Tensor:
        return self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(x))))


class DenseBlock(nn.ModuleDict):
    """Layers that each see the input and what all layers before them added."""

    def __init__(self, num_in: int, num_layers: int, dilation: int) -> None:
        super().__init__(
            {f"tdnnd{i + 1}": DenseLayer(num_in + i * _GROWTH, dilation) for i in range(num_layers)}
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.values():
            x = torch.cat([x, layer(x)], dim=1)
        return x


class Transit(nn.Module):
    """Fewer channels between two blocks."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.nonlinear = _normalised(num_in)
        self.linear = nn.Conv1d(num_in, num_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.nonlinear(x))


class Statistics(nn.Module):
    """Mean and (unbiased) standard deviation over time; at least two frames."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(2), x.std(2)], dim=1)


class Projection(nn.Module):
    """The last layer, from statistics `(batch, num_in)` to the embedding."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(num_in, num_out, 1, bias=False)
        self.nonlinear = nn.Sequential()
        self.nonlinear.add_module("batchnorm", nn.BatchNorm1d(num_out, affine=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.nonlinear(self.linear(x.unsqueeze(2)).squeeze(2))


def load_campplus(path: Path) -> CamPlusPlus:
    """The network with the weights of a state dict. Raises `ModelUnavailable` where they do not fit it."""
    network = CamPlusPlus()
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)
    except Exception as error:
        raise ModelUnavailable(f"{path.name} holds no weights of CAM++: {type(error).__name__}") from error
    network.eval()
    return network


def traced_frames(network: CamPlusPlus, device: torch.device) -> Callable[[Tensor], Tensor]:
    """`network.frames` with constants folded in: about a sixth less time, for any length of input."""
    network = network.to(device)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # torch would rather compile, which needs a compiler
        example = torch.zeros(1, 3 * _CONTEXT_FRAMES - 2, NUM_MELS, device=device)
        frozen: Callable[[Tensor], Tensor] = torch.jit.freeze(
            torch.jit.trace(_Frames(network), example, check_trace=False).eval()
        )
    return frozen


class _Frames(nn.Module):
    def __init__(self, network: CamPlusPlus) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        return self.network.frames(features)


def _convolution(num_in: int, num_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(num_in, num_out, 3, stride=(stride, 1), padding=1, bias=False)


def _normalised(num_channels: int) -> nn.Sequential:
    layers = nn.Sequential()
    layers.add_module("batchnorm", nn.BatchNorm1d(num_channels))
    layers.add_module("relu", nn.ReLU())
    return layers
