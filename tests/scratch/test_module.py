"""Modules register, name, order, freeze and load what torch's do: each test builds the same model on both."""

import copy
import io
import itertools
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import Parameter

from lib.scratch import layers
from lib.scratch.module import Module, ModuleList, Sequential

OURS = {"Module": Module, "ModuleList": ModuleList, "Sequential": Sequential}
THEIRS = {"Module": nn.Module, "ModuleList": nn.ModuleList, "Sequential": nn.Sequential}


def affine(kinds: dict, inputs: int, outputs: int, seed: int = 0):
    """Return a module y = x @ weight + bias of either kind, with the same numbers."""

    class Affine(kinds["Module"]):
        def __init__(self):
            super().__init__()
            generator = torch.Generator().manual_seed(seed)
            self.name = f"{inputs} to {outputs}"
            self.weight = Parameter(torch.randn(inputs, outputs, generator=generator))
            self.bias = Parameter(torch.zeros(outputs))
            self.mask = torch.ones(outputs)

        def forward(self, x):
            return x @ self.weight + self.bias

    return Affine()


def nested(kinds: dict):
    """Return a module with parameters of its own, a chain in a list, and a part that is used twice."""

    class Model(kinds["Module"]):
        def __init__(self):
            super().__init__()
            self.first = affine(kinds, 3, 4)
            self.scale = Parameter(torch.tensor(2.0))
            self.blocks = kinds["ModuleList"]([kinds["Sequential"](affine(kinds, 4, 4, 1)), affine(kinds, 4, 4, 2)])
            self.tied = self.first
            self.blocks.append(self.blocks[-1])

        def forward(self, x):
            x = self.tied(x)
            for block in self.blocks:
                x = block(x) * self.scale
            return x

    return Model()


def both() -> tuple:
    return nested(OURS), nested(THEIRS)


def names(model) -> list[str]:
    return [name for name, _ in model.named_parameters()]


def test_parameters_have_torchs_names_order_and_number() -> None:
    ours, theirs = both()
    assert names(ours) == names(theirs)
    assert len(list(ours.parameters())) == len(list(theirs.parameters())) == 7
    assert [name for name, _ in ours.named_modules()] == [name for name, _ in theirs.named_modules()]


def test_computes_and_learns_as_torchs() -> None:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    results = []
    for model in both():
        optimiser = torch.optim.SGD(model.parameters(), lr=1e-4)
        for _ in range(3):
            model(x).square().mean().backward()
            optimiser.step()
            optimiser.zero_grad()
        results.append(model(x))
    assert torch.equal(*results)


def test_state_dict_has_torchs_keys_and_goes_both_ways() -> None:
    ours, theirs = both()
    state = ours.state_dict()
    assert list(state) == list(theirs.state_dict())
    assert not any(value.requires_grad for value in state.values())
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(1)
    theirs.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    with torch.no_grad():
        theirs.scale.fill_(7)
    held = list(ours.parameters())
    ours.load_state_dict(theirs.state_dict())
    assert ours.scale == 7
    assert all(a is b for a, b in zip(ours.parameters(), held, strict=True))


def test_state_dict_shares_its_memory_with_the_parameters() -> None:
    ours = affine(OURS, 2, 2)
    ours.state_dict()["bias"].fill_(5)
    assert ours.bias.tolist() == [5, 5]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.pop("first.bias"), "'first.bias'"),
        (lambda state: state.update({"first.biass": torch.zeros(4)}), "'first.biass'"),
        (lambda state: state.update({"scale": torch.zeros(3)}), r"'scale' is \[\], got \[3\]"),
    ],
)
def test_a_state_that_does_not_fit_is_named_and_changes_nothing(change, named) -> None:
    ours = nested(OURS)
    state = {name: value + 1 for name, value in ours.state_dict().items()}
    before = ours.scale.item()
    change(state)
    with pytest.raises(ValueError, match=named):
        ours.load_state_dict(state)
    assert ours.scale.item() == before


def test_a_replaced_part_takes_the_place_of_the_old_one() -> None:
    ours, theirs = both()
    for model, kinds in ((ours, OURS), (theirs, THEIRS)):
        model.scale = Parameter(torch.ones(2))
        model.first = affine(kinds, 3, 9)
    assert names(ours) == names(theirs)
    assert ours.state_dict()["scale"].shape == (2,)
    assert ours.state_dict()["first.weight"].shape == (3, 9)
    assert "tied.weight" in names(ours)  # the old one lives on there


def test_what_is_no_longer_a_part_is_no_longer_registered() -> None:
    ours, theirs = both()
    for model in (ours, theirs):
        del model.scale
        model.tied = None
    assert names(ours) == names(theirs)
    assert not hasattr(ours, "scale")
    ours.first = "a word"
    assert names(ours)[0] == "blocks.0.0.weight"
    with pytest.raises(AttributeError):
        del ours.scale


def test_a_tensor_in_the_place_of_a_parameter_is_refused() -> None:
    for kinds in (OURS, THEIRS):
        model = affine(kinds, 2, 2)
        with pytest.raises(TypeError, match="bias"):
            model.bias = torch.zeros(2)
        assert isinstance(model.bias, Parameter)


def test_frozen_parameters_stay_and_do_not_move() -> None:
    ours = nested(OURS)
    ours.first.weight.requires_grad = False
    before = ours.first.weight.clone()
    ours(torch.ones(2, 3)).sum().backward()
    torch.optim.SGD(ours.parameters(), lr=1).step()
    assert "first.weight" in names(ours)
    assert torch.equal(ours.first.weight, before)
    assert not torch.equal(ours.first.bias, torch.zeros(4))


def test_a_plain_tensor_or_list_is_not_registered() -> None:
    ours = affine(OURS, 2, 3)
    ours.extra = [Parameter(torch.zeros(1))]
    assert names(ours) == ["weight", "bias"]
    assert list(ours.state_dict()) == ["weight", "bias"]


def test_train_and_eval_reach_every_module() -> None:
    ours = nested(OURS)
    assert all(module.training for module in ours.modules())
    assert ours.eval() is ours
    assert not any(module.training for module in ours.modules())
    ours.train()
    assert ours.blocks[0][0].training


def test_moves_its_parameters_in_place() -> None:
    ours = affine(OURS, 2, 3)
    held = list(ours.parameters())
    assert ours.to(torch.float64) is ours
    assert [parameter.dtype for parameter in held] == [torch.float64, torch.float64]


def test_forgetting_super_init_is_said() -> None:
    class Careless(Module):
        def __init__(self):
            self.weight = Parameter(torch.zeros(1))

    with pytest.raises(AttributeError, match=r"Careless.*'weight'.*super\(\).__init__\(\)"):
        Careless()


def test_a_module_without_forward_says_so() -> None:
    class Lazy(Module):
        pass

    with pytest.raises(NotImplementedError, match=r"Lazy.*forward"):
        Lazy()(1)


def test_lists_hold_modules_only() -> None:
    with pytest.raises(TypeError, match=r"Sequential.*function"):
        Sequential(affine(OURS, 1, 1), lambda x: x)
    modules = ModuleList([affine(OURS, 1, 1), affine(OURS, 2, 2)])
    assert [len(modules), modules[1].name, modules[-1].name] == [2, "2 to 2", "2 to 2"]
    assert [module.name for module in modules] == ["1 to 1", "2 to 2"]
    with pytest.raises(IndexError):
        modules[2]
    with pytest.raises(NotImplementedError):
        modules(1)


def test_an_empty_chain_returns_what_it_is_given() -> None:
    assert Sequential()(3) == nn.Sequential()(3) == 3
    assert Sequential().backward(torch.ones(1)) == 1


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=5))
def test_a_chain_is_its_parts_in_order(sizes) -> None:
    pairs = list(itertools.pairwise(sizes))
    ours = Sequential(*(affine(OURS, a, b, a) for a, b in pairs))
    theirs = nn.Sequential(*(affine(THEIRS, a, b, a) for a, b in pairs))
    x = torch.ones(2, sizes[0])
    assert torch.equal(ours(x), theirs(x))
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_shows_its_structure() -> None:
    assert repr(Sequential(layers.ReLU(), ModuleList([layers.ReLU()]))) == (
        "Sequential(\n  (0): ReLU()\n  (1): ModuleList(\n    (0): ReLU()\n  )\n)"
    )


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_independent_and_keep_what_is_shared(copied) -> None:
    model = Sequential(layers.Linear(2, 3))
    model.append(model[0])
    twin = copied(model)
    assert twin[0] is twin[1]
    assert twin[0].weight is twin[0].registered["weight"]
    twin[0].weight.fill_(0)
    assert model[0].weight.abs().sum() > 0


def test_a_saved_state_is_read_back() -> None:
    model, file = nested(OURS), io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = nested(OURS)
    with torch.no_grad():
        other.scale.zero_()
    other.load_state_dict(torch.load(file))
    assert other.scale == 2
