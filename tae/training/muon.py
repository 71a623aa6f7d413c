"""Muon, as the library has it, in a precision that this machine is fast in, and for all matrices of one shape at a time."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from tae.training.distributed import like, unsharded

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
NUMBERS_AT_ONCE = 2**22
"""Matrices of one shape are taken together up to so many numbers: small ones gain by it, large ones would take memory."""


def is_block_matrix(name: str, parameter: Tensor) -> bool:
    """Whether Muon moves a model's parameter of this name."""
    return ".blocks." in name and parameter.ndim == 2


class Muon(torch.optim.Muon):
    """Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon/) with Nesterov momentum.

    `torch.optim.Muon` orthogonalises each matrix by itself, in bf16, which a CPU without bf16 units computes forty times
    more slowly than float32.
    """

    def __init__(
        self, matrices: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float, dtype: torch.dtype
    ) -> None:
        super().__init__(matrices, lr=lr, weight_decay=weight_decay, momentum=momentum)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step with the gradients that are there; a closure is called first, and its loss returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for matrices in self.batches(group):
                self._update(matrices, group)
        return loss

    def batches(self, group: dict) -> Iterator[list[nn.Parameter]]:
        """A group's matrices that have a gradient, in lists of one shape that are taken together."""
        alike = defaultdict(list)
        for matrix in group["params"]:
            if matrix.grad is not None:
                alike[matrix.shape].append(matrix)
        for shape, matrices in alike.items():
            count = max(1, NUMBERS_AT_ONCE // shape.numel())
            yield from (matrices[start : start + count] for start in range(0, len(matrices), count))

    def _update(self, matrices: list[nn.Parameter], group: dict) -> None:
        """Move matrices of one shape."""
        updates = []
        for matrix in matrices:
            assert matrix.grad is not None
            if "momentum_buffer" not in self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
            momentum = self.state[matrix]["momentum_buffer"]
            momentum.lerp_(matrix.grad, 1 - group["momentum"])
            update = matrix.grad.lerp(momentum, group["momentum"])
            updates.append(unsharded(update))
        rows, columns = matrices[0].shape
        rate = group["lr"] * max(1, rows / columns) ** 0.5
        for matrix, direction in zip(matrices, orthogonalised(torch.stack(updates), self.dtype), strict=True):
            matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(like(direction, matrix), alpha=-rate)


def orthogonalised(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """The nearest matrices with orthonormal rows or columns, about: five steps of a quintic Newton-Schulz iteration.

    Args:
        matrices: (K, rows, columns).
        dtype: Computed in this type.

    Returns:
        (K, rows, columns) in the type of `matrices`; singular values between about 0.7 and 1.2.
    """
    x = matrices.to(dtype)
    is_tall = x.shape[1] > x.shape[2]
    if is_tall:
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if is_tall else x).to(matrices.dtype)
