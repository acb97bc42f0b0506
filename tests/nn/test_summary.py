"""The summary: counts by hand and torch's own counter, and a model that is left as it was."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lib.nn.layers import convnet
from lib.nn.norm import BatchNorm
from lib.nn.resnet import FixupBlock, ResNet
from lib.nn.summary import flops, short, summary


class Attend(nn.Module):
    """Attention from plain matrix products, with an einsum and a module that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 8)
        self.scale = nn.Parameter(torch.ones(()))
        self.unused = nn.Linear(3, 5)

    def forward(self, q, k):
        q, k = self.project(q), self.project(k)
        return self.scale * torch.einsum("bij,bjd->bid", (q @ k.mT).softmax(-1), k)


MODELS = {
    "convnet": (lambda: convnet(norm=BatchNorm), [(3, 1, 28, 28)]),
    "resnet": (lambda: ResNet((8, 16), 2), [(2, 1, 28, 28)]),
    "fixup": (lambda: ResNet((8, 16), 2, block=FixupBlock), [(2, 1, 28, 28)]),
    "grouped": (
        lambda: nn.Sequential(nn.Conv1d(8, 12, 3, groups=4), nn.ConvTranspose1d(12, 6, 4, 2, groups=2)),
        [(2, 8, 9)],
    ),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, output_padding=1), [(2, 4, 5, 6)]),
    "attention": (lambda: nn.MultiheadAttention(16, 4, batch_first=True), [(2, 5, 16), (2, 7, 16), (2, 7, 16)]),
    "transformer": (lambda: nn.Transformer(16, 2, 1, 2, 32, batch_first=True), [(2, 5, 16), (2, 7, 16)]),
    "products": (Attend, [(2, 5, 8), (2, 7, 8)]),
}


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("name", MODELS)
def test_flops_and_parameters_are_torchs(name):
    make, shapes = MODELS[name]
    model, inputs = make(), [torch.randn(shape) for shape in shapes]
    result = summary(model, inputs)
    model.train()  # in evaluation torch's counter does not see into the fused transformer layer
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*inputs)
    assert result.flops == counter.get_total_flops() > 0
    assert result.parameters == sum(p.numel() for p in model.parameters())
    assert sum(row.flops for row in result.rows) == result.flops
    assert sum(row.parameters for row in result.rows) == result.parameters


def test_counts_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 8, 5, stride=2, padding=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4 * 4, 10))
    conv, relu, flatten, linear = summary(model, torch.randn(6, 3, 8, 8)).rows
    assert (conv.name, conv.kind, conv.shape) == ("0", "Conv2d", (6, 8, 4, 4))
    assert conv.parameters == 8 * 3 * 25 + 8
    assert conv.flops == 2 * 6 * 8 * 4 * 4 * 3 * 25
    assert (relu.parameters, relu.flops, flatten.shape) == (0, 0, (6, 128))
    assert linear.flops == 2 * 6 * 128 * 10


def test_what_belongs_to_no_leaf_is_a_row_of_its_own():
    model = Attend()
    rows = {row.name: row for row in summary(model, [torch.randn(2, 5, 8), torch.randn(2, 7, 8)]).rows}
    assert rows.keys() == {"", "project"}
    assert rows[""].parameters == 1 + 3 * 5 + 5
    assert rows[""].flops == 2 * (2 * 2 * 5 * 7 * 8)
    assert rows["project"].flops == 2 * 2 * (5 + 7) * 8 * 8


def test_shared_and_frozen_weights_count_once():
    layer = nn.Linear(4, 4)
    frozen = nn.Linear(4, 2).requires_grad_(False)
    result = summary(nn.Sequential(layer, layer, frozen), torch.randn(3, 4))
    assert (result.parameters, result.trainable) == (30, 20)
    assert result.flops == 2 * 3 * (2 * 16 + 8)


def test_depth_folds_parts_into_their_holder():
    model, x = ResNet((8, 16), 2), torch.randn(2, 1, 28, 28)
    whole, folded = summary(model, x), summary(model, x, depth=1)
    assert [row.name for row in folded.rows] == ["stem", "stage1", "stage2", "pool", "head"]
    assert folded.rows[1].shape == (2, 8, 14, 14)
    assert folded.flops == sum(row.flops for row in folded.rows) == whole.flops
    assert sum(row.parameters for row in folded.rows) == whole.parameters
    with pytest.raises(ValueError, match=r"depth.*1.*0"):
        summary(model, x, depth=0)


class Listed(nn.Module):
    """Holds its layers in a list, which is never called itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])

    def forward(self, x):
        return {"y": self.layers[1](self.layers[0](x))}


def test_a_list_of_layers_folds_as_well():
    result = summary(Listed(), torch.randn(2, 4), depth=1)
    (row,) = result.rows
    assert (row.name, row.parameters, row.flops) == ("layers", 40, result.flops)


def snapshot(model: nn.Module) -> tuple:
    state = {key: value.clone() for key, value in model.state_dict().items()}
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    return (
        state,
        [m.training for m in model.modules()],
        hooks,
        torch.get_rng_state(),
        torch.backends.mha.get_fastpath_enabled(),
    )


def assert_same(before: tuple, after: tuple) -> None:
    assert before[0].keys() == after[0].keys()
    assert all(torch.equal(before[0][key], after[0][key]) for key in before[0])
    assert before[1:3] == after[1:3]
    assert torch.equal(before[3], after[3])
    assert before[4] == after[4]


class Fails(nn.Module):
    """Draws a random number, moves a buffer, then fails."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.tensor(0.0))

    def forward(self, x):
        self.seen += torch.rand(())
        raise RuntimeError("no")


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(fails):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), BatchNorm(4), nn.Dropout(0.5), Fails() if fails else nn.ReLU())
    model[1].eval()
    before = snapshot(model)
    if fails:
        with pytest.raises(RuntimeError, match="no"):
            summary(model, torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    else:
        summary(model, torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert_same(before, snapshot(model))
    assert all(p.grad is None for p in model.parameters())


def test_it_reads_in_a_terminal_and_on_a_page():
    result = summary(nn.Sequential(nn.Linear(1000, 100), nn.ReLU()), torch.randn(7, 1000))
    lines = str(result).splitlines()
    assert lines[0].split() == ["module", "kind", "output", "parameters", "FLOPs"]
    assert lines[2].split() == ["0", "Linear", "7", "x", "100", "100,100", "1.4", "M"]
    assert lines[-1].split() == ["total", "input", "7", "x", "1000", "100,100", "1.4", "M"]
    page = result._repr_markdown_().splitlines()
    assert page[2] == "| 0 | Linear | 7 x 100 | 100,100 | 1.4 M |"
    assert page[-1].startswith("| **total** |  | **input 7 x 1000** | **100,100** |")
    assert all(line.count("|") == 6 for line in page)


@pytest.mark.parametrize(("count", "text"), [(0, "0"), (999, "999"), (1234, "1.23 k"), (1.5e6, "1.5 M"), (2e9, "2 G")])
def test_short(count, text):
    assert short(count) == text


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"num_layers": 2, "bidirectional": True}, {"bias": False}])
def test_each_matrix_of_a_recurrent_net_meets_each_item_at_each_time(kind, options):
    model = kind(4, 5, **options)
    result = summary(model, torch.randn(7, 3, 4))  # seven times of three items
    assert result.flops == 2 * 7 * 3 * sum(p.numel() for p in model.parameters() if p.ndim == 2)
    assert result.rows[0].shape == (7, 3, 5 * (1 + options.get("bidirectional", False)))


def test_on_a_gpu_a_recurrent_net_is_one_kernel():
    layer = nn.LSTM(4, 5, 2)
    assert flops("_cudnn_rnn", (torch.empty(7, 3, 4), list(layer.parameters()), 4), None) == 2 * 21 * (20 * 9 + 20 * 10)


class Product(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


@pytest.mark.parametrize(
    ("function", "shapes", "terms"),
    [
        (torch.mv, [(3, 4), (4,)], 12),
        (torch.matmul, [(3, 4), (4,)], 12),
        (torch.matmul, [(4,), (4, 3)], 12),
        (torch.matmul, [(2, 3, 4), (4,)], 24),
        (torch.matmul, [(4,), (4,)], 4),
        (torch.vdot, [(4,), (4,)], 4),
        (torch.addmv, [(3,), (3, 4), (4,)], 12),
        (torch.addbmm, [(3, 5), (2, 3, 4), (2, 4, 5)], 120),
        (torch.nn.functional.linear, [(4,), (3, 4), (3,)], 12),
    ],
)
def test_products_with_vectors_count(function, shapes, terms):
    assert summary(Product(function), [torch.randn(shape) for shape in shapes]).flops == 2 * terms
