"""Weights to start from: Glorot, Kaiming, layer-sequential unit variance (LSUV), and deep nets with no normalisation.

All change parameters in place and return what they were given, or what they did. Weights are [out, in] of a linear and
[out, in, *kernel] of a convolutional layer; random numbers come from `generator`, by default torch's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lib.checks import wide
from lib.nn.hooks import Hook, Hooks, first_tensor
from lib.nn.state import preserve_state

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def fans(weight: Tensor) -> tuple[int, int]:
    """Return how many inputs each output sums over, and how many outputs each input feeds: (fan in, fan out)."""
    if weight.ndim < 2:
        raise ValueError(f"a weight [out, in, *kernel] has fans, one of shape {list(weight.shape)} has not")
    kernel = weight[0, 0].numel()
    return weight.shape[1] * kernel, weight.shape[0] * kernel


def glorot_(
    weight: Tensor, *, uniform: bool = False, gain: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """Draw with variance gain^2 * 2 / (fan in + fan out), a compromise of forward and backward pass (Glorot 2010)."""
    return _draw(weight, gain * math.sqrt(2 / sum(fans(weight))), uniform, generator)


def kaiming_(
    weight: Tensor, negative_slope: float = 0.0, *, uniform: bool = False, generator: torch.Generator | None = None
) -> Tensor:
    """Draw with variance 2 / (1 + a^2) / fan in, a = `negative_slope`, for layers after a leaky ReLU (He et al. 2015).

    A ReLU halves the mean square of what comes in, a leaky one leaves (1 + a^2) / 2 of it. The factor makes up for
    that: a = 0 is a plain ReLU, a = 1 no activation at all.
    """
    return _draw(weight, math.sqrt(2 / (1 + negative_slope**2) / fans(weight)[0]), uniform, generator)


@torch.no_grad()
def _draw(weight: Tensor, std: float, uniform: bool, generator: torch.Generator | None) -> Tensor:
    """Fill from a normal or a uniform distribution around 0 with that standard deviation."""
    if not uniform:
        return weight.normal_(0, std, generator=generator)
    bound = math.sqrt(3) * std  # the variance of U(-b, b) is b^2 / 3
    return weight.uniform_(-bound, bound, generator=generator)


def init_weights(
    model: nn.Module, negative_slope: float = 0.0, *, generator: torch.Generator | None = None
) -> nn.Module:
    """Give each linear and convolutional layer Kaiming weights for a ReLU of that `negative_slope`, and zero biases."""
    for module in model.modules():
        if isinstance(module, LAYERS):
            kaiming_(module.weight, negative_slope, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def lsuv(
    model: nn.Module,
    batch: Tensor,
    modules: Iterable[nn.Module] | None = None,
    *,
    tolerance: float = 1e-3,
    max_iter: int = 20,
) -> dict[str, tuple[float, float]]:
    """Scale weights, shift biases until each module's output on `batch` has mean 0 and std 1 (Mishkin 2016).

    A module is a linear or convolutional layer (by default each of the model's), or a block that holds one, such as a
    convolution and its activation: then the block's output is measured, and its first layer is changed. They are
    treated in the order in which the batch reaches them, so what is done stays done. Returns the mean and standard
    deviation reached, by name. A ValueError names the module that cannot be scaled, and the weights are then as they
    were. Hooks, training mode, buffers and random state are left alone.
    """
    names = {module: name for name, module in model.named_modules()}
    chosen = [m for m in model.modules() if isinstance(m, LAYERS)] if modules is None else list(modules)
    for module in chosen:
        if module not in names:
            raise ValueError(f"lsuv: {type(module).__name__} is no module of the model")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    try:
        order = list(_outputs(model, batch, chosen))
        unused = [names[module] for module in chosen if module not in order]
        if unused:
            raise ValueError(f"lsuv: the batch does not pass through {', '.join(map(repr, unused))}")
        return {names[m]: _scale_to_unit(model, batch, m, names[m], tolerance, max_iter) for m in order}
    except BaseException:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(before[name])
        raise


def _scale_to_unit(
    model: nn.Module, batch: Tensor, module: nn.Module, name: str, tolerance: float, max_iter: int
) -> tuple[float, float]:
    """Bring one module to mean 0 and standard deviation 1, and return both."""
    where = f"lsuv: {name!r} ({type(module).__name__})"
    layer = next((m for m in module.modules() if isinstance(m, LAYERS)), None)
    if layer is None or layer.bias is None:
        raise ValueError(f"{where} has no {'layer' if layer is None else 'bias'} to change")
    for _ in range(max_iter + 1):
        output = _outputs(model, batch, [module])[module]
        if output is None:
            raise ValueError(f"{where} puts out no tensor to be measured")
        mean, std = wide(output).mean().item(), wide(output).std(correction=0).item()
        if not math.isfinite(mean + std):
            raise ValueError(f"{where} puts out values that are not finite: mean {mean}, standard deviation {std}")
        if std <= 1e-6 * abs(mean):
            raise ValueError(f"{where} puts out {mean:.3g} for everything: dead or constant, it cannot be scaled")
        if abs(mean) < tolerance and abs(std - 1) < tolerance:
            return mean, std
        with torch.no_grad():
            layer.weight /= std
            layer.bias.sub_(mean).div_(std)
    raise ValueError(
        f"{where} is still at mean {mean:.3g}, standard deviation {std:.3g} after {max_iter} rounds: "
        "can its activation have mean 0 (a plain ReLU cannot)?"
    )


def _outputs(model: nn.Module, batch: Tensor, modules: Sequence[nn.Module]) -> dict[nn.Module, Tensor | None]:
    """Run the batch through, and return what each module puts out the first time, in the order of the calls.

    Copies, as an activation that works in place overwrites what it is given, the batch too; None for what holds no
    tensor.
    """
    outputs: dict[nn.Module, Tensor | None] = {}

    def keep(hook: Hook, module: nn.Module, inputs: Any, output: Any) -> None:
        found = first_tensor(output)
        outputs.setdefault(module, None if found is None else found.clone())

    with Hooks(modules, keep), preserve_state(model), torch.no_grad():
        model(batch.clone())
    return outputs


def fixup_(
    branches: Sequence[Sequence[nn.Module]],
    head: nn.Module | None = None,
    *,
    generator: torch.Generator | None = None,
) -> None:
    """Start a residual net of L branches so that no normalisation is needed (Fixup; Zhang, Dauphin and Ma 2019).

    `branches` holds the m linear or convolutional layers of each residual branch, in order. The last of each and the
    classifier `head` become zero, so that each block begins as its shortcut; the others get Kaiming weights times
    L^(-1 / (2m - 2)), so that what one step of these layers changes of the net's output does not grow with L (the
    paper's argument; scalars beside them, of which it adds some to each block, are not in it).
    """
    if not branches or any(not branch for branch in branches):
        raise ValueError("fixup_: each residual branch needs its layers, got none")
    for *inner, last in branches:
        for layer in inner:
            kaiming_(layer.weight, generator=generator)
            with torch.no_grad():
                layer.weight *= len(branches) ** (-1 / (2 * len(inner)))
        nn.init.zeros_(last.weight)
    if head is not None:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)


def t_fixup_(
    model: nn.Module, embeddings: Iterable[nn.Embedding] = (), *, generator: torch.Generator | None = None
) -> nn.Module:
    """Start a transformer so that it trains without LayerNorm and without warm-up (T-Fixup; Huang et al. 2020).

    `model` holds torch's TransformerEncoderLayers, TransformerDecoderLayers or both. Their LayerNorms are replaced by
    the identity, and all matrices drawn by Glorot. Then the value and output projections of each attention, and both
    layers of each perceptron, are multiplied by 0.67 N^(-1/4) in the N layers of an encoder and by (9N)^(-1/4) in those
    of a decoder. `embeddings` are drawn with standard deviation d^(-1/2) and multiplied by (9N)^(-1/4) too, N counting
    the decoder's layers, or the encoder's where there is no decoder; a row for padding keeps its values.
    """
    encoder = [m for m in model.modules() if isinstance(m, nn.TransformerEncoderLayer)]
    decoder = [m for m in model.modules() if isinstance(m, nn.TransformerDecoderLayer)]
    if not encoder and not decoder:
        raise ValueError(f"t_fixup_: {type(model).__name__} holds no transformer layer of torch")
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.LayerNorm):
                setattr(module, name, NoNorm())
    for layer in encoder:
        _glorot_times(layer, 0.67 * len(encoder) ** -0.25, generator)
    for layer in decoder:
        _glorot_times(layer, (9 * len(decoder)) ** -0.25, generator)
    for embedding in embeddings:
        _draw_embedding(embedding, (9 * len(decoder or encoder)) ** -0.25, generator)
    return model


@torch.no_grad()
def _draw_embedding(embedding: nn.Embedding, scale: float, generator: torch.Generator | None) -> None:
    """Draw with standard deviation `scale` d^(-1/2); the padding's row, which is never trained, stays as it is."""
    padding = slice(0) if embedding.padding_idx is None else embedding.padding_idx
    kept = embedding.weight[padding].clone()
    _draw(embedding.weight, scale * embedding.embedding_dim**-0.5, False, generator)
    embedding.weight[padding] = kept


@torch.no_grad()
def _glorot_times(layer: nn.Module, scale: float, generator: torch.Generator | None) -> None:
    """Draw the matrices of one transformer layer; multiply values, output projections and perceptron by `scale`."""
    for attention in (m for m in layer.modules() if isinstance(m, nn.MultiheadAttention)):
        if attention.in_proj_weight is None:
            query, key, value = attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight
        else:
            query, key, value = attention.in_proj_weight.chunk(3)
        for weight, factor in ((query, 1), (key, 1), (value, scale), (attention.out_proj.weight, scale)):
            glorot_(weight, gain=factor, generator=generator)
    for linear in (layer.linear1, layer.linear2):
        glorot_(linear.weight, gain=scale, generator=generator)


class NoNorm(nn.Identity):
    """Stands where a LayerNorm was. Its eps differs from any, so torch calls it and takes no fused path around it."""

    eps = math.nan
