"""Networks that look at pictures: each takes RGB [n, 3, h, w] in [0, 1], and its layers have names to hook.

`load` takes the first of them that is within reach: VGG-16 or -19 of torchvision, a slim VGG-19 that ships with the
repository, SqueezeNet in the folder LIB_DATA, and random filters of several sizes, which need nothing.
"""

from __future__ import annotations

import hashlib
import os
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from lib.checks import check_choice
from lib.data import Source, files
from lib.data.dataset import Unavailable
from lib.nn.init import glorot_

VGG16 = (2, 2, 3, 3, 3)
VGG19 = (2, 2, 4, 4, 4)
SLIM = "models/vgg19-slim/vgg19-slim.safetensors"
SQUEEZENET = "squeezenet1_1-features/squeezenet1_1-features.safetensors"
SQUEEZENET_SHA256 = "1fbd480f0853efe39f7612207bec40b08d81926dbc4a8b65d81993b9abfec466"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
SCALES = {3: 1, 5: 1, 7: 2, 11: 2, 15: 4, 23: 4, 37: 8, 55: 8}  # side of a filter: its stride
SQUEEZENET_NAMES = ("conv1", "relu1", "pool1", "fire2", "fire3", "pool3", "fire4", "fire5", "pool5")
SQUEEZENET_NAMES += ("fire6", "fire7", "fire8", "fire9")
PREFERRED = ("vgg19", "vgg19-slim", "squeezenet", "random")  # as `load` tries them


@dataclass(frozen=True)
class Extractor:
    """A network in evaluation mode whose weights are fixed, the layers that style transfer takes of it, and its source.

    `content` is one layer, `style` several. `source` is for the colophon.
    """

    name: str
    net: nn.Module
    content: str
    style: tuple[str, ...]
    source: Source


class Preprocess(nn.Module):
    """Multiply and shift the channels, after their order is turned from RGB to BGR where `bgr`: the shape stays."""

    def __init__(self, scale: Sequence[float], shift: Sequence[float], bgr: bool = False) -> None:
        super().__init__()
        self.bgr = bgr
        self.register_buffer("scale", torch.tensor(scale).view(3, 1, 1))
        self.register_buffer("shift", torch.tensor(shift).view(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return x * scale + shift."""
        return (x.flip(1) if self.bgr else x) * self.scale + self.shift


class RandomFilters(nn.Module):
    """Convolutions with random filters of several sizes, side by side, each before a ReLU: never trained.

    One layer of filters from 3x3 to 55x55 is enough to tell textures apart (Ustyuzhaninov et al. 2016, arXiv
    1606.00021, section 2: 128 of each size, at every place). Here are `filters` of each, and the large ones look at
    every second, fourth or eighth place, which a mean over places hardly notices. The layers are `filters3` to
    `filters55`; pictures are reflected at their edges, by half a filter. The weights are Glorot's.
    """

    def __init__(self, filters: int = 16, scales: dict[int, int] = SCALES, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.preprocess = Preprocess((4.0,) * 3, (-2.0,) * 3)
        for side, stride in scales.items():
            conv = nn.Conv2d(3, filters, side, stride, padding=side // 2, padding_mode="reflect", bias=False)
            glorot_(conv.weight, uniform=True, generator=generator)
            self.add_module(f"filters{side}", nn.Sequential(conv, nn.ReLU()))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return what each size of filter answers: [n, filters, h / stride, w / stride] each."""
        x = self.preprocess(x)
        return [layer(x) for name, layer in self.named_children() if name != "preprocess"]


def load(
    name: str | Sequence[str] = PREFERRED,
    *,
    root: str | Path | None = None,
    network: bool = True,
    device: torch.device | str = "cpu",
) -> Extractor:
    """Load a network by its name, or of several names the first that is within reach.

    "vgg16", "vgg19": torchvision's (Simonyan and Zisserman 2015), 0.5 GB, from torch's cache or with `network` fetched;
    layers conv1_1, relu1_1, ... pool5.
    "vgg19-slim": a quarter of its filters, as far as relu5_1 (Wang et al. 2020), from what ships, so always within
    reach. "squeezenet": version 1.1 (Iandola et al. 2016), from the folder `root` (by default the environment's
    LIB_DATA); layers relu1, fire2 to fire9. "random": `RandomFilters`. Raises ValueError for an unknown name, for a
    file that is broken, and when none of the names is within reach.
    """
    names = (name,) if isinstance(name, str) else tuple(name)
    loaders: dict[str, Callable[[], Extractor]] = {
        "vgg16": partial(_torchvision, "vgg16", network),
        "vgg19": partial(_torchvision, "vgg19", network),
        "vgg19-slim": _slim,
        "squeezenet": partial(_squeezenet, root),
        "random": _random,
    }
    missing = []
    for each in names:
        check_choice("extractor", each, loaders)
        try:
            found = loaders[each]()
        except Unavailable as reason:
            missing.append(f"{each}: {reason}")
            continue
        found.net.to(device).eval().requires_grad_(False)
        return found
    raise ValueError(f"no extractor within reach ({'; '.join(missing) or 'no name was given'}); 'random' needs nothing")


def vgg(blocks: Sequence[int], channels: Sequence[int], preprocess: nn.Module, **padding: str) -> nn.Sequential:
    """Return the convolutions of a VGG, named conv1_1, relu1_1, conv1_2, ... pool1, conv2_1, ..., weights not set.

    `blocks` are the convolutions and `channels` the filters of each stage; there is a pool behind each but the last.
    """
    net = nn.Sequential()
    net.add_module("preprocess", preprocess)
    before = 3
    for stage, (depth, width) in enumerate(zip(blocks, channels, strict=True), start=1):
        for i in range(1, depth + 1):
            net.add_module(f"conv{stage}_{i}", nn.Conv2d(before, width, 3, padding=1, **padding))
            net.add_module(f"relu{stage}_{i}", nn.ReLU())
            before = width
        if stage < len(blocks):
            net.add_module(f"pool{stage}", nn.MaxPool2d(2))
    return net


def _torchvision(name: str, network: bool) -> Extractor:
    weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if not cached.is_file():
        _check_reachable(weights.url, network)
    try:  # the name ends in the beginning of its sha256, which is checked
        state = torch.hub.load_state_dict_from_url(weights.url, check_hash=True, progress=False, weights_only=True)
    except OSError as error:
        raise Unavailable(f"the download broke off ({error})") from error
    blocks = VGG16 if name == "vgg16" else VGG19
    scale = [1 / std for std in IMAGENET_STD]
    shift = [-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    net = vgg(blocks, (64, 128, 256, 512, 512), Preprocess(scale, shift))
    values = [value for key, value in state.items() if key.startswith("features.")]
    own = [key for key in net.state_dict() if key.startswith("conv")]
    net.load_state_dict(dict(zip(own, values, strict=True)), strict=False)
    where = f"torchvision, {weights.url.rsplit('/', 1)[-1]}"
    return _vgg_extractor(name, net, Source(name, "hub", where, cached.stem.rpartition("-")[2]))


def _check_reachable(url: str, network: bool) -> None:
    """Ask for nothing but the head of a file, for three seconds at most: what is behind it is half a gigabyte."""
    if not network or os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "TRUE", "YES", "ON"):
        raise Unavailable("not in the cache, and the network was not to be used")
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=3).close()
    except OSError as error:
        raise Unavailable(f"not in the cache, and {url.split('/')[2]} did not answer") from error


def _slim() -> Extractor:
    path = files.shipped(SLIM)
    state = load_file(path)
    colours = nn.Conv2d(3, 3, 1)  # trained as a layer: RGB in [0, 1] to BGR about its mean
    net = vgg((2, 2, 4, 4, 1), (16, 32, 64, 128, 128), colours, padding_mode="reflect")
    names = {f"conv{key[4]}_{key[5:]}": value for key, value in state.items() if "aux" not in key and key[4] != "0"}
    colours.load_state_dict({key[6:]: value for key, value in state.items() if key.startswith("conv0.")})
    net.load_state_dict({f"preprocess.{key}": value for key, value in colours.state_dict().items()} | names)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return _vgg_extractor("vgg19-slim", net, Source("vgg19-slim", "shipped", "data/" + SLIM, sha256))


def _vgg_extractor(name: str, net: nn.Module, source: Source) -> Extractor:
    return Extractor(name, net, "relu4_1", tuple(f"relu{stage}_1" for stage in range(1, 6)), source)


def _squeezenet(root: str | Path | None) -> Extractor:
    path, where = _file(root, SQUEEZENET)
    whole = torchvision.models.squeezenet1_1(weights=None)
    whole.load_state_dict(load_file(files.verify(path, SQUEEZENET_SHA256)), strict=False)
    net = nn.Sequential()
    net.add_module("preprocess", Preprocess((255.0,) * 3, [-mean for mean in CAFFE_MEAN_BGR], bgr=True))
    for name, layer in zip(SQUEEZENET_NAMES, whole.features, strict=True):
        net.add_module(name, layer)
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # so that a hook on what comes before sees it as it was
    style = ("relu1", "fire2", "fire3", "fire4", "fire6")
    source = Source("squeezenet", "local", where, SQUEEZENET_SHA256)
    return Extractor("squeezenet", net, "fire5", style, source)


def _file(root: str | Path | None, name: str) -> tuple[Path, str]:
    """Return the path of a file of LIB_DATA, and how a page may call it."""
    named = "LIB_DATA" if root is None else "the given root"
    root = os.environ.get("LIB_DATA") if root is None else root
    if not root:
        raise Unavailable("LIB_DATA is not set")
    path = Path(root) / name
    if not path.is_file():
        raise Unavailable(f"{named} has no {name}")
    return path, f"{name} in {named}"


def _random() -> Extractor:
    net = RandomFilters()
    digest = hashlib.sha256()
    for value in net.state_dict().values():
        digest.update(value.numpy().tobytes())
    source = Source("random", "made", "random filters of several sizes, never trained", digest.hexdigest())
    style = tuple(name for name, _ in net.named_children() if name != "preprocess")
    return Extractor("random", net, "filters7", style, source)
