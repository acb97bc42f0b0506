"""Each optimiser goes where torch's goes, step by step, and refuses what torch would let pass or explain badly."""

import itertools
import math

import pytest
import torch

from lib.scratch.optim import SGD, Adam, AdamW, Muon, Optimiser, RMSProp, orthogonal

PEERS = {SGD: torch.optim.SGD, RMSProp: torch.optim.RMSprop, Adam: torch.optim.Adam, AdamW: torch.optim.AdamW}
CASES = [
    (SGD, {"lr": 0.05}),
    (SGD, {"lr": 0.05, "momentum": 0.9}),
    (SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}),
    (SGD, {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1, "nesterov": True}),
    (RMSProp, {}),
    (RMSProp, {"lr": 0.03, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
    (Adam, {}),
    (Adam, {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-5, "weight_decay": 0.1}),
    (AdamW, {}),
    (AdamW, {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-5, "weight_decay": 0.3}),
]
by_case = pytest.mark.parametrize(("kind", "options"), CASES, ids=lambda x: getattr(x, "__name__", None))


def parameters(dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    shapes = ((3, 4), (4,), ())
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def loss(tensors: list[torch.Tensor], step: int = 0) -> torch.Tensor:
    """A bumpy landscape, far from round, that moves from step to step as batches do: it never lets go at a minimum."""
    goal = 0.3 + math.sin(step)
    return sum((scale * (t - goal).square() + t.cos()).sum() for scale, t in zip((5, 0.1, 1), tensors, strict=True))


def walk(optimiser: torch.optim.Optimizer, tensors: list[torch.Tensor], steps: range) -> None:
    for step in steps:
        optimiser.zero_grad()
        loss(tensors, step).backward()
        optimiser.step()


def near(ours: list[torch.Tensor], theirs: list[torch.Tensor], rtol: float = 1e-11) -> bool:
    return all(torch.allclose(a, b, rtol=rtol, atol=1e-12) for a, b in zip(ours, theirs, strict=True))


@by_case
def test_the_trajectory_is_that_of_torch(kind, options):
    ours, theirs = parameters(), parameters()
    mine, peer = kind(ours, **options), PEERS[kind](theirs, **options)
    for start in range(0, 200, 10):
        walk(mine, ours, range(start, start + 10))
        walk(peer, theirs, range(start, start + 10))
        assert near(ours, theirs)
    assert not near(ours, parameters(), rtol=1e-3)


@by_case
def test_groups_have_options_of_their_own_and_change_on_the_way(kind, options):
    ours, theirs = parameters(), parameters()
    mine, peer = (
        make([{"params": tensors[:1], "weight_decay": 0.2}, {"params": tensors[1:], "lr": 0.001}], **options)
        for make, tensors in ((kind, ours), (PEERS[kind], theirs))
    )
    for part in range(3):
        for optimiser in (mine, peer):
            optimiser.param_groups[0]["lr"] = 0.01 / (1 + part)
        walk(mine, ours, range(10 * part, 10 * part + 10))
        walk(peer, theirs, range(10 * part, 10 * part + 10))
    assert near(ours, theirs)


@by_case
def test_a_saved_state_goes_on_as_if_nothing_had_happened(kind, options):
    through, stopped = parameters(), parameters()
    optimiser = kind(through, **options)
    walk(optimiser, through, range(20))
    first = kind(stopped, **options)
    walk(first, stopped, range(10))
    resumed = [tensor.detach().clone().requires_grad_() for tensor in stopped]
    second = kind(resumed, lr=123.0)
    second.load_state_dict(first.state_dict())
    walk(second, resumed, range(10, 20))
    assert all(torch.equal(a, b) for a, b in zip(through, resumed, strict=True))


@by_case
def test_a_parameter_without_a_gradient_stays_where_it_is(kind, options):
    still, moved = parameters()[:2]
    before = still.detach().clone(), moved.detach().clone()
    optimiser = kind([still, moved], **options)
    moved.square().sum().backward()
    optimiser.step()
    assert torch.equal(still, before[0])
    assert not torch.equal(moved, before[1])
    assert still not in optimiser.state


@pytest.mark.parametrize("kind", PEERS)
def test_the_defaults_are_those_of_torch(kind):
    ours, theirs = kind(parameters()).defaults, PEERS[kind](parameters()).defaults
    assert ours == {name: theirs[name] for name in ours}


@pytest.mark.parametrize("kind", PEERS)
def test_schedulers_and_closures_work_as_with_torch(kind):
    ours, theirs = parameters(), parameters()
    for tensors, make in ((ours, kind), (theirs, PEERS[kind])):
        optimiser = make(tensors, lr=0.05)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=10)

        def closure(optimiser=optimiser, tensors=tensors) -> torch.Tensor:
            optimiser.zero_grad()
            value = loss(tensors)
            value.backward()
            return value

        values = []
        for _ in range(10):
            values.append(optimiser.step(closure).item())
            schedule.step()
        assert values[-1] < values[0]
    assert near(ours, theirs)


def test_l2_and_decoupled_decay_differ_where_gradients_do():
    ends = []
    for kind in (Adam, AdamW):
        weight = torch.ones(2, dtype=torch.float64)
        optimiser = kind([weight], lr=0.01, weight_decay=0.1)
        for sign in itertools.islice(itertools.cycle((1.0, -1.0)), 200):
            weight.grad = sign * torch.tensor([1e-3, 1e3], dtype=torch.float64)
            optimiser.step()
        ends.append(weight)
    l2, decoupled = ends
    assert decoupled[0].item() == pytest.approx(decoupled[1].item(), rel=1e-2)  # the same decay for both
    assert decoupled[0] < 0.9
    assert l2[0] < 0.1 < 0.9 < l2[1]  # all of it, or next to none


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (SGD, {"lr": -0.1}, r"SGD.*lr.*0.*-0\.1"),
        (SGD, {"lr": float("nan")}, "lr.*0.*nan"),
        (SGD, {"lr": float("inf")}, "lr.*0.*inf"),
        (SGD, {"lr": "0.1"}, r"lr.*'0\.1'"),
        (SGD, {"lr": True}, "lr.*True"),
        (SGD, {"momentum": -1}, "momentum.*0.*-1"),
        (SGD, {"weight_decay": -1e-4}, r"weight_decay.*0.*-0\.0001"),
        (SGD, {"nesterov": True}, "nesterov=True.*momentum"),
        (RMSProp, {"alpha": 1.0}, r"alpha.*0.*1.*1\.0"),
        (RMSProp, {"eps": -1.0}, r"eps.*0.*-1\.0"),
        (Adam, {"betas": (0.9, 1.0)}, r"betas.*0.*1.*\(0\.9, 1\.0\)"),
        (Adam, {"betas": 0.9}, r"betas.*0\.9"),
        (AdamW, {"betas": (0.9, 0.99, 0.999)}, r"betas.*\(0\.9, 0\.99, 0\.999\)"),
        (AdamW, {"eps": None}, "eps.*None"),
    ],
)
def test_bad_hyper_parameters_are_refused(kind, options, words):
    with pytest.raises(ValueError, match=words):
        kind(parameters(), **options)
    with pytest.raises(ValueError, match=words):  # and in a group
        kind([{"params": parameters(), **options}])


def test_unknown_options_get_the_nearest():
    with pytest.raises(ValueError, match=r"AdamW.*'weight_deacy'; did you mean 'weight_decay'"):
        AdamW([{"params": parameters(), "weight_deacy": 0.1}])
    with pytest.raises(TypeError, match="momentun"):
        SGD(parameters(), momentun=0.9)
    with pytest.raises(ValueError, match="empty parameter list"):
        SGD([])


def test_an_optimiser_must_say_how_a_parameter_moves():
    weight = torch.ones(1)
    weight.grad = torch.ones(1)
    with pytest.raises(NotImplementedError, match=r"Optimiser.*update"):
        Optimiser([weight], {"lr": 0.1}).step()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@by_case
def test_in_half_precision_each_goes_where_it_goes_in_float64(kind, options, dtype):
    """A gradient of 300 has no square in float16, and in bfloat16 an average of slow moves would not move."""
    ends = []
    for kept in (dtype, torch.float64):
        parameter = torch.ones(4, dtype=dtype).to(kept).requires_grad_()
        optimiser = kind([parameter], **options)
        for step in range(50):
            sizes = (300.0, 1e-3, 1.0 + 0.003 * step, 5.0 * math.cos(step))
            parameter.grad = torch.tensor(sizes, dtype=dtype).to(kept)
            optimiser.step()
        ends.append([state for state in optimiser.state[parameter].values() if isinstance(state, torch.Tensor)])
        assert parameter.dtype == kept
        assert parameter.isfinite().all()
    for ours, exact in zip(*ends, strict=True):
        assert ours.dtype == torch.float32
        # The parameter itself is rounded, and with weight decay is part of the gradient.
        torch.testing.assert_close(ours.double(), exact, rtol=0.1 if "weight_decay" in options else 0.02, atol=0.02)


# Muon: torch's own is for matrices alone


MUON = {"lr": 0.05, "momentum": 0.8, "weight_decay": 0.3}


def test_muon_goes_where_torch_goes_with_the_size_of_adam():
    shapes = ((6, 4), (4, 6), (5, 1), (1, 5), (3, 3))
    ours, theirs = ([torch.randn(s, dtype=torch.float64).requires_grad_() for s in shapes] for _ in range(2))
    for a, b in zip(ours, theirs, strict=True):
        b.data.copy_(a.data)
    mine, peer = Muon(ours, **MUON), torch.optim.Muon(theirs, **MUON, adjust_lr_fn="match_rms_adamw")
    for step in range(100):
        for tensors, optimiser in ((ours, mine), (theirs, peer)):
            optimiser.zero_grad()
            sum((t - math.sin(step)).square().sum() + t.cos().sum() for t in tensors).backward()
            optimiser.step()
        assert near(ours, theirs, rtol=1e-6)


def test_muon_takes_a_filter_for_a_matrix_a_bias_for_a_column_and_a_number_for_its_sign():
    generator = torch.Generator().manual_seed(3)
    filters = torch.randn(4, 2, 3, 3, generator=generator, dtype=torch.float64)
    gradient = torch.randn(4, 2, 3, 3, generator=generator, dtype=torch.float64)
    bias, number = filters[:, 0, 0, 0].clone(), torch.tensor(2.0, dtype=torch.float64)
    tensors = [filters.clone(), filters.flatten(1).clone(), bias.clone(), bias[:, None].clone(), number.clone()]
    slopes = [gradient, gradient.flatten(1), gradient[:, 0, 0, 0], gradient[:, :1, 0, 0], torch.tensor(-7.0).double()]
    for tensor, slope in zip(tensors, slopes, strict=True):
        tensor.grad = slope
    Muon(tensors, lr=0.1, weight_decay=0.0, dtype=torch.float64).step()
    assert torch.equal(tensors[0].flatten(1), tensors[1])
    assert torch.equal(tensors[2], tensors[3][:, 0])
    size = orthogonal(torch.ones(1, 1, dtype=torch.float64)).item()
    moved = (tensors[2] - bias).square().mean().sqrt().item()
    assert moved == pytest.approx(0.1 * 0.2 * size)
    assert tensors[4].item() == pytest.approx(2.0 + 0.1 * 0.2 * size)


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (1, 4), (4, 1)])
def test_an_orthogonal_step_keeps_singular_vectors_and_makes_singular_values_about_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    s = values / values.norm()
    for _ in range(5):
        s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
    torch.testing.assert_close(orthogonal(matrix), left * s @ right)
    assert ((s[values / values.norm() > 0.05] - 1).abs() < 0.35).all()


def test_what_has_no_direction_stays_where_it_is():
    assert not orthogonal(torch.zeros(3, 2)).any()
    weight = torch.ones(3, 2, requires_grad=True)
    weight.grad = torch.zeros(3, 2)
    Muon([weight], weight_decay=0.0).step()
    assert torch.equal(weight, torch.ones(3, 2))


@pytest.mark.parametrize(("name", "value"), [("lr", -1.0), ("momentum", float("nan")), ("weight_decay", "much")])
def test_muon_refuses_what_is_out_of_range(name, value):
    with pytest.raises(ValueError, match=rf"Muon: {name} must be a number from 0"):
        Muon(parameters(), **{name: value})


def test_a_saved_muon_goes_on_as_if_nothing_had_happened(tmp_path):
    through, stopped = parameters(), parameters()
    walk(Muon(through, **MUON), through, range(20))
    first = Muon(stopped, **MUON)
    walk(first, stopped, range(10))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = Muon(stopped)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    walk(second, stopped, range(10, 20))
    assert all(torch.equal(a, b) for a, b in zip(through, stopped, strict=True))
