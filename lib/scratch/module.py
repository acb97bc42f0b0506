"""`Module`: an object that knows its parameters and those of its parts, as `torch.nn.Module` does.

What is assigned as an attribute is looked at by `__setattr__`: a `Parameter` or another module is registered under its
name, and everything else is an ordinary attribute. Names and order are those of torch, but that a part replaced by
`None` loses its place in the order, and that other values than tensors may replace a part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter


class Module:
    """A part of a model; a subclass calls `super().__init__()` first, assigns its parts, and defines `forward`.

    A parameter that is frozen (`requires_grad=False`) stays registered. Deleting an attribute takes it out, assigning
    another one puts that in its place; a tensor that is no `Parameter` in the place of one raises TypeError, since
    training would silently leave it out.
    """

    training: bool
    registered: dict[str, Parameter | Module]

    def __init__(self) -> None:
        vars(self).update(registered={}, training=True)  # parts by name, in order

    def __setattr__(self, name: str, value: Any) -> None:
        if "registered" not in vars(self):
            raise AttributeError(
                f"{type(self).__name__} sets {name!r} before super().__init__() was called: nothing can be registered"
            )
        if isinstance(self.registered.get(name), Parameter) and type(value) is Tensor:
            raise TypeError(
                f"{type(self).__name__}.{name} is a Parameter, got a Tensor: change its values in place, or wrap it"
            )
        if isinstance(value, Parameter | Module):
            self.registered[name] = value
        else:
            self.registered.pop(name, None)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self.registered.pop(name, None)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what `forward` returns."""
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; a subclass says how."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it computes: define forward")

    def modules(self) -> Iterator[Module]:
        """Yield this module and all below it, each once, parents first."""
        for _, module in self.named_modules():
            yield module

    def named_modules(self, prefix: str = "", seen: set[Module] | None = None) -> Iterator[tuple[str, Module]]:
        """Yield (name, module), this one as `prefix` and all below it, each once; names are joined by dots."""
        seen = set() if seen is None else seen
        if self not in seen:
            seen.add(self)
            yield prefix, self
            for name, part in self.registered.items():
                if isinstance(part, Module):
                    yield from part.named_modules(_join(prefix, name), seen)

    def parameters(self) -> Iterator[Parameter]:
        """Yield each parameter once, also one that is shared; a module's own come before those of its parts."""
        for _, parameter in self.named_parameters():
            yield parameter

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Yield (name, parameter), each parameter once, under its first name."""
        seen = set()
        for prefix, module in self.named_modules():
            for name, part in module.registered.items():
                if isinstance(part, Parameter) and part not in seen:
                    seen.add(part)
                    yield _join(prefix, name), part

    def train(self, mode: bool = True) -> Module:
        """Set `training` here and in all modules below, and return this one."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Set `training` to False here and in all modules below, and return this one."""
        return self.train(False)

    def to(self, where: torch.device | torch.dtype | str) -> Module:
        """Move all parameters to a device or dtype, in place, so that an optimiser keeps its hold of them."""
        for parameter in self.parameters():
            parameter.data = parameter.data.to(where)
        return self

    def state_dict(self, prefix: str = "") -> dict[str, Tensor]:
        """Return all parameters by name, without their history; one that is shared stands under each of its names."""
        own = {_join(prefix, k): v.detach() for k, v in self.registered.items() if isinstance(v, Parameter)}
        for name, part in self.registered.items():
            if isinstance(part, Module):
                own |= part.state_dict(_join(prefix, name))
        return own

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy values into the parameters. Raises ValueError that names what is missing, unknown or misshapen."""
        mine = self.state_dict()
        wrong = [f"no {name!r}" for name in mine.keys() - state.keys()]
        wrong += [f"unknown {name!r}" for name in state.keys() - mine.keys()]
        wrong += [
            f"{name!r} is {list(mine[name].shape)}, got {list(state[name].shape)}"
            for name in mine.keys() & state.keys()
            if mine[name].shape != state[name].shape
        ]
        if wrong:
            raise ValueError(f"{type(self).__name__} cannot load: {'; '.join(sorted(wrong))}")
        for name, values in mine.items():
            values.copy_(state[name])

    def __repr__(self) -> str:
        parts = [(name, repr(part)) for name, part in self.registered.items() if isinstance(part, Module)]
        lines = "\n".join(f"({name}): {text}" for name, text in parts).replace("\n", "\n  ")
        return f"{type(self).__name__}(\n  {lines}\n)" if parts else f"{type(self).__name__}()"


class ModuleList(Module):
    """Modules in a list, registered as "0", "1", ...: what a plain Python list would keep from `parameters()`."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        super().__init__()
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> ModuleList:
        """Add a module at the end and return the list. Raises TypeError for what is no module."""
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__} holds modules, got {type(module).__name__}")
        setattr(self, str(len(self)), module)
        return self

    def __len__(self) -> int:
        return len(self.registered)

    def __iter__(self) -> Iterator[Module]:
        return iter(list(self.registered.values()))

    def __getitem__(self, index: int) -> Module:
        return list(self)[index]


class Sequential(ModuleList):
    """Modules in a chain: each takes what the one before it returned."""

    def __init__(self, *modules: Module) -> None:
        super().__init__(modules)

    def forward(self, x: Any) -> Any:
        """Return what the last module returns, and x itself where there is none."""
        for module in self:
            x = module(x)
        return x

    def backward(self, grad: Tensor) -> Tensor:
        """Return the gradient of the input from that of the result, where each module has a `backward` of its own."""
        for module in reversed(list(self)):
            grad = module.backward(grad)
        return grad


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
