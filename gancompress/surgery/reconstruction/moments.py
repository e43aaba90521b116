"""Streamed moments of a least-squares problem, and its solution near a given weight."""

from __future__ import annotations

import torch
from torch import Tensor


class Moments:
    """Sums of x x^T and x r^T over rows, in float64 (ours).

    ``r`` is what the present weight leaves of the target, so that a weight that is right already
    stays as it is, whatever the ridge.

    Args:
        weight: the present weight (groups, outputs, features).
        bias: of the present operator (groups, outputs).
        intercept: whether the bias may change.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, intercept: bool) -> None:
        g, o, p = weight.shape
        self.weight, self.bias, self.intercept = weight, bias, intercept
        self.xx = weight.new_zeros(g, p, p)
        self.xr = weight.new_zeros(g, p, o)
        self.x, self.r = weight.new_zeros(g, p), weight.new_zeros(g, o)
        self.rr = weight.new_zeros(())
        self.tt, self.t = weight.new_zeros(g, o), weight.new_zeros(g, o)
        self.rows = 0

    def add(self, x: Tensor, target: Tensor) -> None:
        """Take rows: x (rows, groups, features), target (rows, channels)."""
        x, target = x.to(self.xx), target.to(self.xx)
        x = x.transpose(0, 1)
        t = target.reshape(len(target), *self.r.shape).transpose(0, 1)
        r = t - x @ self.weight.transpose(1, 2) - self.bias[:, None]
        self.xx += x.transpose(1, 2) @ x
        self.xr += x.transpose(1, 2) @ r
        self.x += x.sum(1)
        self.r += r.sum(1)
        self.rr += r.square().sum()
        self.tt += t.square().sum(1)
        self.t += t.sum(1)
        self.rows += len(target)

    def spread(self) -> float:
        """Return the variance of the target, summed over channels."""
        n = max(self.rows, 1)
        return float((self.tt / n - (self.t / n).square()).sum().clamp_min(0))

    def error(self, change: Tensor | None = None, shift: Tensor | None = None) -> float:
        """Return the mean square of what is left, summed over channels, after a change.

        ``change`` is added to the weight (groups, outputs, features), ``shift`` to the bias.
        """
        total = self.rr.clone()
        if change is not None:
            shift = torch.zeros_like(self.r) if shift is None else shift
            by = change.transpose(1, 2)
            total -= 2 * (by * self.xr).sum() + 2 * (shift * self.r).sum()
            total += (by * (self.xx @ by)).sum() + self.rows * shift.square().sum()
            total += 2 * (shift * (change @ self.x[..., None])[..., 0]).sum()
        return max(float(total) / max(self.rows, 1), 0.0)

    def solve(self, ridge: float) -> tuple[Tensor, Tensor]:
        """Return the change of weight (groups, outputs, features) and bias (groups, outputs).

        Ridge regression towards no change: ``ridge`` times the mean of the diagonal is added to it.
        """
        change = solve_ridge(*self._centred(), ridge).transpose(1, 2)
        return change, self.shift(change)

    def solve_at_length(self) -> Tensor:
        """Return the change that is best among those which keep the length of the weight.

        For one output, behind a norm of weights that knows no other length: the system's diagonal
        is moved until the solution has it (Lagrange).
        """
        assert self.weight.shape[:2] == (1, 1)
        xx, xr = (part[0] for part in self._centred())
        w = self.weight[0, 0]
        values, vectors = torch.linalg.eigh(xx)
        along = vectors.t() @ (xx @ w + xr[:, 0])
        length = w.norm()
        low, high = -values[0] * (1 - 1e-9), along.norm() / length
        for _ in range(200):
            middle = (low + high) / 2
            longer = (along / (values + middle)).norm() > length
            low, high = (middle, high) if longer else (low, middle)
        found = vectors @ (along / (values + high))
        return (found * (length / found.norm().clamp_min(1e-300)) - w)[None, None]

    def _centred(self) -> tuple[Tensor, Tensor]:
        if not self.intercept:
            return self.xx, self.xr
        n = max(self.rows, 1)
        xx = self.xx - self.x[:, :, None] * self.x[:, None, :] / n
        return xx, self.xr - self.x[:, :, None] * self.r[:, None, :] / n

    def shift(self, change: Tensor) -> Tensor:
        """Return the change of the bias that goes best with one of the weight."""
        if not self.intercept:
            return torch.zeros_like(self.r)
        return (self.r - (change @ self.x[..., None])[..., 0]) / max(self.rows, 1)


def solve_ridge(xx: Tensor, xr: Tensor, ridge: float) -> Tensor:
    """Return the solution of (xx + ridge * mean diagonal) w = xr; singular parts are left at 0."""
    scale = xx.diagonal(dim1=-2, dim2=-1).mean(-1)
    if ridge > 0:
        damped = xx + (ridge * scale)[:, None, None] * torch.eye(xx.shape[-1]).to(xx)
        factor, info = torch.linalg.cholesky_ex(damped)
        if int(info.abs().max()) == 0:
            return torch.cholesky_solve(xr, factor)
    values, vectors = torch.linalg.eigh(xx)
    values = values + (ridge * scale)[:, None]
    cutoff = values[:, -1:].abs() * xx.shape[-1] * 1e-15
    inverse = torch.where(values > cutoff, 1 / values, torch.zeros_like(values))
    return vectors @ (inverse[..., None] * (vectors.transpose(1, 2) @ xr))
