"""What the kernels ask of their inputs, said in one place and in a sentence."""

from __future__ import annotations

import torch

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SINGLE_AND_DOUBLE = (torch.float32, torch.float64)


def product(a: torch.Tensor, b: torch.Tensor, dtypes: tuple[torch.dtype, ...] = FLOATS) -> tuple[int, int, int]:
    """Return (m, k, n) of the product of a [m, k] and b [k, n]; a ValueError says what came and what fits."""
    pair(a, b, dtypes, "a [m, k] and b [k, n]")
    if a.shape[1] != b.shape[0]:
        raise ValueError(
            f"the product sums over the columns of a and the rows of b, which must agree: "
            f"got a {list(a.shape)} and b {list(b.shape)}, {a.shape[1]} columns against {b.shape[0]} rows"
        )
    return a.shape[0], a.shape[1], b.shape[1]


def pair(a: torch.Tensor, b: torch.Tensor, dtypes: tuple[torch.dtype, ...], expected: str) -> None:
    """Refuse what is not two matrices (`expected` says which) of one dtype out of `dtypes`, on one device."""
    for value in (a, b):
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"expected torch tensors {expected}, got {type(value).__name__}")
    if a.ndim != 2 or b.ndim != 2:
        raise ValueError(f"expected two matrices, {expected}: got shapes {list(a.shape)} and {list(b.shape)}")
    if a.dtype != b.dtype:
        raise ValueError(f"both matrices need one dtype, got {a.dtype} and {b.dtype}")
    if a.dtype not in dtypes:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise ValueError(f"expected one of the dtypes {names}, got {a.dtype}")
    if a.device != b.device:
        raise ValueError(f"both matrices need one device, got {a.device} and {b.device}")


def on_cpu(a: torch.Tensor, function: str) -> None:
    """Refuse tensors that are not in the CPU's memory."""
    if a.device.type != "cpu":
        raise ValueError(f"{function} runs on the CPU, got tensors on {a.device}; pass a.cpu() and b.cpu()")
