"""Initialisers: their statistics are torch's, LSUV ends or says why not, deep nets hold their scale without norms."""

import math
import warnings

import pytest
import torch
from torch import nn

from lib.nn.init import fans, fixup_, glorot_, init_weights, kaiming_, lsuv, t_fixup_
from lib.nn.layers import GeneralReLU, conv_block, convnet
from lib.nn.norm import BatchNorm
from lib.nn.resnet import FixupBlock, ResNet

SHAPES = [(300, 200), (64, 32, 3, 3), (48, 96, 5), (16, 8, 3, 3, 3)]


def images(n: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(seed)) * 0.5 + 0.3


def seeded(make, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return make()


@pytest.mark.parametrize("shape", SHAPES)
def test_fans_are_torchs(shape):
    weight = torch.empty(shape)
    assert fans(weight) == nn.init._calculate_fan_in_and_fan_out(weight)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("slope", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("uniform", [False, True])
def test_kaiming_draws_what_torch_draws(shape, slope, uniform):
    torch_init = nn.init.kaiming_uniform_ if uniform else nn.init.kaiming_normal_
    theirs = torch_init(torch.empty(shape), a=slope, generator=torch.Generator().manual_seed(1))
    ours = kaiming_(torch.empty(shape), slope, uniform=uniform, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours, theirs)
    assert ours.std().item() == pytest.approx(math.sqrt(2 / (1 + slope**2) / fans(ours)[0]), rel=0.03)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("uniform", [False, True])
def test_glorot_draws_what_torch_draws(shape, uniform):
    torch_init = nn.init.xavier_uniform_ if uniform else nn.init.xavier_normal_
    theirs = torch_init(torch.empty(shape), gain=1.7, generator=torch.Generator().manual_seed(1))
    ours = glorot_(torch.empty(shape), uniform=uniform, gain=1.7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours, theirs)


def test_a_vector_has_no_fans():
    with pytest.raises(ValueError, match=r"\[out, in, \*kernel\].*\[3\]"):
        kaiming_(torch.empty(3))


def test_init_weights_reaches_every_layer():
    model = nn.Sequential(nn.Conv2d(8, 64, 3), nn.Sequential(nn.Conv1d(8, 64, 5, bias=False)), nn.Linear(400, 100))
    assert init_weights(model, 0.1, generator=torch.Generator().manual_seed(0)) is model
    for layer in (model[0], model[1][0], model[2]):
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / 1.01 / fans(layer.weight)[0]), rel=0.05)
        assert layer.bias is None or not layer.bias.any()


def test_lsuv_brings_a_bad_net_to_unit_variance_and_leaves_the_rest():
    model = seeded(lambda: convnet((8, 16, 32), act=lambda: GeneralReLU(0.1, 0.4), norm=None))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(7).add_(0.1)
    model.append(nn.Dropout(0.5)).append(BatchNorm(10))
    model[1].eval()
    modes = [m.training for m in model.modules()]
    buffers = [b.clone() for b in model.buffers()]
    random = torch.get_rng_state()
    blocks = list(model[:4])
    reached = lsuv(model, images(), reversed(blocks))
    assert list(reached) == ["0", "1", "2", "3"]
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(a, b) for a, b in zip(buffers, model.buffers(), strict=True))
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(m._forward_hooks for m in model.modules())
    x = images()
    for block, (mean, std) in zip(blocks, reached.values(), strict=True):
        x = block(x)
        assert x.mean().item() == pytest.approx(mean, abs=1e-5)
        assert abs(mean) < 1e-3
        assert x.std(correction=0).item() == pytest.approx(std, abs=1e-5)
        assert abs(std - 1) < 1e-3


def test_lsuv_does_nothing_twice():
    model = seeded(lambda: nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5)))
    x = torch.randn(100, 20, generator=torch.Generator().manual_seed(0))
    assert list(lsuv(model, x)) == ["0", "2"]
    before = [p.clone() for p in model.parameters()]
    lsuv(model, x)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_lsuv_takes_tiny_weights():
    model = seeded(lambda: nn.Sequential(*[nn.Linear(20, 20) for _ in range(5)]))
    init_weights(model)
    with torch.no_grad():
        for layer in model:
            layer.weight *= 1e-12
    x = torch.randn(100, 20, generator=torch.Generator().manual_seed(0))
    lsuv(model, x)
    assert model(x).std().item() == pytest.approx(1, abs=0.01)


def constant() -> nn.Module:
    layer = nn.Linear(4, 4)
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, 0.3)
    return layer


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 4), GeneralReLU(maximum=-1.0)), "Sequential.* -1 "),
        (constant, r"Linear.* 0\.3 "),
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU()), "Sequential.* 20 .*ReLU"),
        (lambda: nn.Linear(4, 4, bias=False), "Linear.*bias"),
        (lambda: nn.ReLU(), "ReLU.*layer"),
    ],
)
def test_lsuv_names_what_cannot_be_scaled_and_puts_the_weights_back(broken, message):
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 4), broken()))
    before = [p.clone() for p in model.parameters()]
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=f"lsuv.*'1'.*{message}"):
        lsuv(model, x, [model[0], model[1]])
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not any(m._forward_hooks for m in model.modules())


def test_lsuv_names_a_layer_of_nan():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    nn.init.constant_(model[1].weight, math.nan)
    with pytest.raises(ValueError, match=r"'1' .*mean nan"):
        lsuv(model, torch.randn(50, 4))


def test_lsuv_names_what_the_batch_does_not_reach():
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].spare = nn.Linear(4, 4)
    with pytest.raises(ValueError, match=r"'0\.spare'"):
        lsuv(model, torch.randn(50, 4))
    with pytest.raises(ValueError, match=r"lsuv.*Linear"):
        lsuv(model, torch.randn(50, 4), [nn.Linear(4, 4)])


def test_fixup_scales_branches_by_their_number():
    branches = [[nn.Conv2d(32, 64, 3), nn.Conv2d(64, 64, 3), nn.Conv2d(64, 32, 3)] for _ in range(16)]
    head = nn.Linear(32, 10)
    fixup_(branches, head, generator=torch.Generator().manual_seed(0))
    for first, second, last in branches:
        for layer in (first, second):  # m = 3: 16^(-1/4) is a half
            assert layer.weight.std().item() == pytest.approx(0.5 * math.sqrt(2 / fans(layer.weight)[0]), rel=0.05)
        assert not last.weight.any()
    assert not head.weight.any()
    assert not head.bias.any()


def test_fixup_with_one_layer_a_branch_and_with_none():
    lone = nn.Linear(4, 4)
    fixup_([[lone]])
    assert not lone.weight.any()
    with pytest.raises(ValueError, match=r"fixup_.*branch"):
        fixup_([[lone], []])


@pytest.mark.parametrize("blocks", [1, 20])
def test_a_fixup_net_starts_at_the_same_scale_at_any_depth_and_learns(blocks):
    model = seeded(lambda: ResNet((8, 16), blocks, stem=8, block=FixupBlock))
    y = torch.arange(30) % 10
    x = images(30)[..., :20, :20] * 0.1 + (torch.arange(20) < 2 * y[:, None, None, None])  # a bar as wide as the class
    features = nn.Sequential(model.stem, model.stage1, model.stage2)
    assert 0.1 < features(x).std().item() < 10
    assert not model(x).any()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(10), abs=1e-5)
    assert losses[-1] < losses[0] - 0.1


def test_the_same_depth_without_norm_and_without_fixup_explodes():
    model = seeded(lambda: ResNet((8, 16), 20, stem=8, norm=None))
    features = nn.Sequential(model.stem, model.stage1, model.stage2)
    assert features(images(32)).std().item() > 1e3


def std(fan_in: int, fan_out: int) -> float:
    return math.sqrt(2 / (fan_in + fan_out))


def test_t_fixup_scales_values_outputs_and_perceptrons_of_an_encoder():
    layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0, batch_first=True)
    model = nn.TransformerEncoder(layer, 16, norm=nn.LayerNorm(64), enable_nested_tensor=False)
    embedding = nn.Embedding(500, 64)
    assert t_fixup_(model, [embedding], generator=torch.Generator().manual_seed(0)) is model
    scale = 0.67 / 2  # 16^(-1/4) is a half
    for layer in model.layers:
        query, key, value = layer.self_attn.in_proj_weight.chunk(3)
        for weight in (query, key):
            assert weight.std().item() == pytest.approx(std(64, 64), rel=0.05)
        for weight in (value, layer.self_attn.out_proj.weight):
            assert weight.std().item() == pytest.approx(scale * std(64, 64), rel=0.05)
        for weight in (layer.linear1.weight, layer.linear2.weight):
            assert weight.std().item() == pytest.approx(scale * std(64, 128), rel=0.05)
    assert embedding.weight.std().item() == pytest.approx((9 * 16) ** -0.25 / 8, rel=0.05)
    assert not any(isinstance(m, nn.LayerNorm) for m in model.modules())


def test_t_fixup_scales_both_attentions_of_a_decoder():
    model = nn.Transformer(32, 2, 2, 9, 64, batch_first=True)
    t_fixup_(model, generator=torch.Generator().manual_seed(0))
    scale = (9 * 9) ** -0.25
    for layer in model.decoder.layers:
        for attention in (layer.self_attn, layer.multihead_attn):
            query, _, value = attention.in_proj_weight.chunk(3)
            assert query.std().item() == pytest.approx(std(32, 32), rel=0.1)
            assert value.std().item() == pytest.approx(scale * std(32, 32), rel=0.1)
        assert layer.linear2.weight.std().item() == pytest.approx(scale * std(32, 64), rel=0.1)


def test_t_fixup_knows_attention_over_other_widths():
    layer = nn.TransformerEncoderLayer(32, 2, 64)
    layer.self_attn = nn.MultiheadAttention(32, 2, kdim=16, vdim=16)
    t_fixup_(nn.Sequential(layer), generator=torch.Generator().manual_seed(0))
    assert layer.self_attn.v_proj_weight.std().item() == pytest.approx(0.67 * std(16, 32), rel=0.1)


def test_a_transformer_without_norms_runs_the_same_in_both_modes():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, dropout=0, batch_first=True), 3)
    t_fixup_(model, generator=torch.Generator().manual_seed(0))
    x = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(1))
    trained = model.train()(x)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(model.eval()(x), trained)


def test_t_fixup_needs_a_transformer():
    with pytest.raises(ValueError, match=r"t_fixup_.*Linear"):
        t_fixup_(nn.Linear(2, 2))


def test_conv_block_feeds_lsuv_by_its_first_layer():
    block = seeded(lambda: conv_block(1, 8, act=lambda: GeneralReLU(0.1, 0.4)))
    lsuv(block, images(), [block])
    assert block(images()).std().item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("inplace", [True, False])
def test_lsuv_measures_a_layer_before_an_activation_in_place_overwrites_it(inplace):
    x = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    model = seeded(lambda: nn.Sequential(nn.Linear(8, 16), nn.ELU(inplace=inplace), nn.Linear(16, 8), nn.ReLU(inplace)))
    reached = lsuv(model, x)
    assert list(reached) == ["0", "2"]
    for name, layer in (("0", model[0](x)), ("2", model[:3](x))):
        assert (layer.mean().item(), layer.std(correction=0).item()) == pytest.approx(reached[name], abs=1e-5)
        assert reached[name] == pytest.approx((0, 1), abs=1e-3)


def test_lsuv_leaves_the_batch_alone():
    x = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    batch, model = x.clone(), seeded(lambda: nn.Sequential(nn.ELU(inplace=True), nn.Linear(8, 8)))
    lsuv(model, batch)
    assert torch.equal(batch, x)
    assert model(batch).std(correction=0).item() == pytest.approx(1, abs=1e-3)


class Wrapped(nn.Module):
    """A layer whose answer is deep inside of other things, or nowhere."""

    def __init__(self, wrap) -> None:
        super().__init__()
        self.layer, self.wrap = nn.Linear(4, 4), wrap

    def forward(self, x):
        return self.wrap(self.layer(x))


def test_lsuv_looks_into_nested_outputs_and_names_what_has_none():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    nested = Wrapped(lambda y: {"none": None, "all": [(y, "more")]})
    lsuv(nested, x, [nested])
    assert nested.layer(x).std(correction=0).item() == pytest.approx(1, abs=1e-3)
    empty = Wrapped(lambda y: None)
    before = [p.clone() for p in empty.parameters()]
    with pytest.raises(ValueError, match=r"lsuv.*''.*Wrapped"):
        lsuv(empty, x, [empty])
    assert all(torch.equal(a, b) for a, b in zip(before, empty.parameters(), strict=True))


def test_t_fixup_keeps_the_row_of_the_padding():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64), 16, enable_nested_tensor=False)
    padded, plain = nn.Embedding(300, 32, padding_idx=-2), nn.Embedding(300, 32)
    for embedding in (padded, plain):
        t_fixup_(model, [embedding], generator=torch.Generator().manual_seed(0))
    assert not padded.weight[298].any()
    rows = torch.arange(300) != 298
    assert torch.equal(padded.weight[rows], plain.weight[rows])
    assert plain.weight[298].any()
    assert padded.weight.requires_grad


def test_a_fixup_block_refuses_what_it_does_not_know():
    with pytest.raises(TypeError, match="strid"):
        FixupBlock(4, 4, strid=2)
