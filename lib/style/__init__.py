"""Style transfer: networks that look at pictures, losses of content and style, and pictures as the parameters."""

from lib.style.extractors import Extractor, load
from lib.style.features import hook_features, receptive_field
from lib.style.losses import Objective, content_loss, gram, style_loss, total_variation
from lib.style.objective import build_objective
from lib.style.optimise import optimise_image
from lib.style.transfer import transfer_style
from lib.style.visualise import visualise_channels

__all__ = [
    "Extractor",
    "Objective",
    "build_objective",
    "content_loss",
    "gram",
    "hook_features",
    "load",
    "optimise_image",
    "receptive_field",
    "style_loss",
    "total_variation",
    "transfer_style",
    "visualise_channels",
]
