"""Features are what the layers give, hooks are gone whatever happened, and a receptive field is what the sums say."""

import gc
import weakref

import pytest
import torch
from torch import nn

from lib.style import hook_features, receptive_field
from tests.style.helpers import hooked, picture


def test_features_are_what_the_layers_give_in_the_order_asked(net):
    x = picture(20, 24)
    found = hook_features(net, ["relu2_1", "conv1_1", "relu2_1"])(x)
    assert list(found) == ["relu2_1", "conv1_1"]
    names = [name for name, _ in net.named_children()]
    for name, value in found.items():
        assert torch.equal(value, net[: names.index(name) + 1](x))
    assert hook_features(net, "conv1_2")(x)["conv1_2"].shape == (1, 4, 20, 24)
    assert hooked(net) == 0


def test_a_forward_pass_ends_at_the_deepest_layer_asked_for(net):
    extract = hook_features(net, ["conv1_2", "conv1_1"])
    net.conv2_1.register_forward_hook(lambda *_: pytest.fail("went deeper than it had to"))
    extract(picture(20, 24))


def test_gradients_flow_to_the_picture(shallow):
    extract = hook_features(shallow, ["0", "1"])
    x = picture(5, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: tuple(extract(x).values()), x)


def test_hooks_are_gone_after_an_error_in_the_model(net):
    extract = hook_features(net, ["conv1_1", "conv2_2"])
    with pytest.raises(RuntimeError, match="must match"):
        extract(torch.zeros(1, 4, 20, 20, dtype=torch.float64))
    assert hooked(net) == 0


def test_hooks_are_gone_after_an_interrupt(net):
    extract = hook_features(net, ["conv1_1", "conv2_2"])

    def interrupt(*_):
        raise KeyboardInterrupt

    handle = net.pool1.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        extract(picture(20, 20))
    handle.remove()
    assert hooked(net) == 0


def test_an_unknown_layer_lists_those_there_are(net):
    with pytest.raises(ValueError, match=r"'relu2_3'.*'relu2_\d'.*preprocess, conv1_1"):
        hook_features(net, ["conv1_1", "relu2_3"])
    with pytest.raises(ValueError, match="preprocess, conv1_1, relu1_1"):
        hook_features(net, [])
    with pytest.raises(ValueError, match="'conv9'"):
        receptive_field(net, "conv9")


def test_what_is_no_batch_of_pictures_is_refused(net):
    with pytest.raises(ValueError, match=r"\[n, 3, h, w\].*\[3, 40, 40\]"):
        hook_features(net, "conv1_1")(picture(40, 40)[0])


def test_one_forward_pass_is_all_that_features_cost(net):
    passes = []
    net.register_forward_pre_hook(lambda *_: passes.append(1))
    extract = hook_features(net, ["conv1_1", "relu2_2"])
    assert not passes
    extract(picture(20, 24))
    assert len(passes) == 1


def test_features_behind_a_layer_that_looks_at_everything_are_features_all_the_same():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 5, 1))
    x = picture(6, 7).float()
    found = hook_features(net, ["1", "3"])(x)
    assert torch.equal(found["1"], net[:2](x))
    assert torch.equal(found["3"], net(x))


def test_a_model_is_not_kept_alive_by_what_was_found_out_about_it(shallow):
    made = nn.Sequential(*shallow)
    receptive_field(made, "1")
    hook_features(made, "1")(picture(5, 6))
    kept = weakref.ref(made)
    del made
    gc.collect()
    assert kept() is None


def test_a_layer_that_is_overwritten_in_place_is_refused():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3))
    with pytest.raises(ValueError, match=r"'0'.*inplace=False"):
        hook_features(net, ["0", "2"])(torch.rand(1, 3, 20, 20))
    assert hooked(net) == 0
    hook_features(net, ["1", "2"])(torch.rand(1, 3, 20, 20))


def test_a_layer_that_is_not_reached_is_named():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(ValueError, match="'idle'"):
        hook_features(Half(), ["used", "idle"])(torch.rand(1, 3, 9, 9))


@pytest.mark.parametrize(
    ("layers", "field"),
    [
        ([nn.Conv2d(3, 4, 3, padding=1)], (1, 1, 1)),
        ([nn.Conv2d(3, 4, 3)], (1, 0, 2)),
        ([nn.Conv2d(3, 4, 5, stride=2, padding=2)], (2, 2, 2)),
        ([nn.Conv2d(3, 4, 3, dilation=3, padding=3)], (1, 3, 3)),
        ([nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1)], (2, 3, 4)),
        ([nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(4)], (4, 0, 3)),
        ([nn.MaxPool2d(2)] * 4 + [nn.Conv2d(3, 4, 5, padding=2)], (16, 32, 47)),
    ],
)
def test_a_receptive_field_is_what_the_sums_say(layers, field):
    net = nn.Sequential(*layers)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    found = receptive_field(net, str(len(layers) - 1))
    assert (found.stride, found.before, found.after) == field
    assert found.size == field[1] + field[2] + 1
    assert net.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_a_receptive_field_is_found_without_the_algorithms_that_spread_a_nan():
    class Asks(nn.Conv2d):
        def forward(self, x):
            seen.append(torch.backends.cudnn.enabled)
            return super().forward(x)

    seen, before = [], torch.backends.cudnn.enabled
    receptive_field(nn.Sequential(Asks(3, 4, 3, padding=1)), "0")
    assert set(seen) == {False}
    assert torch.backends.cudnn.enabled == before


def test_a_layer_that_looks_at_everything_has_no_receptive_field():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4))
    with pytest.raises(ValueError, match=r"'1'.*2048"):
        receptive_field(net, "1")


def test_a_receptive_field_is_found_once_and_again_after_the_layers_changed(shallow):
    passes = []
    shallow.register_forward_pre_hook(lambda *_: passes.append(1))
    assert receptive_field(shallow, "1").size == 3
    once = len(passes)
    assert receptive_field(shallow, "1").size == 3
    assert len(passes) == once
    shallow[0] = nn.Conv2d(3, 4, 5, padding=2).double()
    assert receptive_field(shallow, "1").size == 5
