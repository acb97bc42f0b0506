"""Style transfer: networks that look at pictures, losses of content and style, and pictures as the parameters."""

from lib.style.extractors import Extractor, load
from lib.style.features import features, receptive_field
from lib.style.losses import Objective, content_loss, gram, style_loss, total_variation
from lib.style.objective import objective
from lib.style.optimise import optimise_image
from lib.style.transfer import transfer
from lib.style.visualise import visualise

__all__ = [
    "Extractor",
    "Objective",
    "content_loss",
    "features",
    "gram",
    "load",
    "objective",
    "optimise_image",
    "receptive_field",
    "style_loss",
    "total_variation",
    "transfer",
    "visualise",
]
