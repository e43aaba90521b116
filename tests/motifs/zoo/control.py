"""Python around the operators: shared modules, containers of parameters, branches on data."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .registry import motif

Example = tuple[tuple[Any, ...], dict[str, Any]]


# Input and output of a module that is called twice in a row are one and the same group.
@motif("called_twice", free={"stem": 12, "body": 12, "mid": 12})
class CalledTwice(nn.Module):
    """One convolution applied twice, one norm shared by two places."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.bn, self.mid = nn.BatchNorm2d(c), nn.Conv2d(c, c, 1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn(self.stem(x)))
        h = F.relu(self.body(F.relu(self.body(h))))
        return self.out(F.relu(self.bn(self.mid(h))))


# a and b own the same Parameter: a channel goes from both, or from none.
@motif("shared_parameter", free={"stem": 12, "a": 12, "b": 12})
class SharedParameter(nn.Module):
    """One weight tensor owned by two modules; they must still share it after the cut."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.stem = nn.Conv2d(3, c, 3, padding=1)
        self.a, self.b = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.b.weight = self.a.weight
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.stem(x))
        return self.out(F.relu(self.b(F.relu(self.a(h)))))


@motif("parameter_list", free={"weights.0:0": 12, "weights.1:0": 12})
class ParameterContainers(nn.Module):
    """Weights in a ParameterList, biases in a ParameterDict, applied functionally."""

    def __init__(self, c: int = 12):
        super().__init__()
        sizes = [(c, 3), (c, c), (3, c)]
        self.weights = nn.ParameterList([torch.randn(o, i, 3, 3) * 0.2 for o, i in sizes])
        self.biases = nn.ParameterDict({f"b{n}": torch.randn(o) for n, (o, _) in enumerate(sizes)})

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        for n, weight in enumerate(self.weights):
            x = F.conv2d(x, weight, self.biases[f"b{n}"], padding=1)
            x = F.leaky_relu(x, 0.2) if n < 2 else x
        return x


# The branch not taken by the example owns `cold`: it never ran, so it stays whole, and so does
# what only it knows. conv and hot are free along the path that ran... but a cut of `conv` would
# break the other path, so `conv` stays; `hot` writes and reads on its own.
@motif("data_branch", free={"hot": 12, "mid": 12})
class DataBranch(nn.Module):
    """Control flow that depends on values: a loop count and a branch."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.hot, self.mid = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5).abs() + 0.5,), {}

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.hot(x))
        if x.mean() > 0.1:
            h = h * 1.5
        for _ in range(int(x.abs().max().clamp(1, 3).item())):
            h = F.relu(self.mid(h))
        return self.out(h)


# A scalar of the whole feature map normalises it: the channels enter through a mean.
@motif("scalar_from_features", free={"body": 12}, kept={"stem": ("mean",)})
class ScalarFromFeatures(nn.Module):
    """The features are divided by their own mean magnitude, over channels as well."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        h = h / h.abs().mean(dim=(1, 2, 3), keepdim=True)
        return self.out(F.relu(self.body(F.relu(h))))


# The forward writes the weight on every call, so a gate on it would be written over. That
# convolution must be kept, the rest goes.
@motif("rewrites_weights", free={"body": 12}, kept={"stem": ("rewrite", "in place")})
class RewritesWeights(nn.Module):
    """A forward that clips its own weights in place."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, c, 3, padding=1)
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.stem.weight.clamp_(-0.15, 0.15)
        return self.out(F.relu(self.body(F.relu(self.stem(x)))))


# In-place activations and additions, detached statistics, dropout: nothing pins a channel.
@motif("in_place", free={"stem": 12, "body": 12})
class InPlace(nn.Module):
    """In-place arithmetic on views, dropout, gradient checkpointing."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.drop, self.out = nn.Dropout2d(0.1), nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 6, 6),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        h[:, :, 0] += 1.0
        h = F.leaky_relu_(h, 0.2)
        h = h + checkpoint(self.body, h, use_reentrant=False)
        h.mul_(0.7).add_(0.1)
        return self.out(self.drop(F.elu(h)))


class FusedLeakyReLU(torch.autograd.Function):
    """A hand-written autograd function, as StyleGAN2 ports carry."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor) -> Tensor:
        y = x + bias.view(1, -1, 1, 1)
        ctx.save_for_backward(y)
        return torch.where(y > 0, y, 0.2 * y) * 2**0.5

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        (y,) = ctx.saved_tensors
        grad = torch.where(y > 0, grad, 0.2 * grad) * 2**0.5
        return grad, grad.sum((0, 2, 3))


@motif("autograd_function", free={"stem": 12, "body": 12})
class AutogradFunction(nn.Module):
    """Operators hidden in a custom autograd function."""

    def __init__(self, c: int = 12):
        super().__init__()
        self.stem = nn.Conv2d(3, c, 3, padding=1, bias=False)
        self.body = nn.Conv2d(c, c, 3, padding=1, bias=False)
        self.bias = nn.ParameterList([torch.randn(c), torch.randn(c)])
        self.out = nn.Conv2d(c, 3, 3, padding=1)

    def example(self) -> Example:
        return (torch.randn(2, 3, 5, 5),), {}

    def forward(self, x: Tensor) -> Tensor:
        h = FusedLeakyReLU.apply(self.stem(x), self.bias[0])
        return self.out(FusedLeakyReLU.apply(self.body(h), self.bias[1]))
