"""The training loop and its callbacks."""

from lib.data.loaders import DataLoaders
from lib.learner.checkpoint import Checkpoint
from lib.learner.device import Accelerated, BatchTransform, DeviceCallback, MixedPrecision
from lib.learner.events import EVENTS, Callback, CancelBatch, CancelEpoch, CancelFit, CancelPass
from lib.learner.finder import LrFind
from lib.learner.learner import Learner
from lib.learner.metrics import Accuracy, Mean, Metrics
from lib.learner.progress import Progress
from lib.learner.recorder import Recorder
from lib.learner.schedules import Scheduled, cosine, momentum_cycle, one_cycle
from lib.learner.stats import ActivationStats
from lib.learner.steering import EMA, ClipGradients, EarlyStop, SingleBatch, StopAtNaN
from lib.learner.steps import TrainStep

__all__ = [
    "EMA",
    "EVENTS",
    "Accelerated",
    "Accuracy",
    "ActivationStats",
    "BatchTransform",
    "Callback",
    "CancelBatch",
    "CancelEpoch",
    "CancelFit",
    "CancelPass",
    "Checkpoint",
    "ClipGradients",
    "DataLoaders",
    "DeviceCallback",
    "EarlyStop",
    "Learner",
    "LrFind",
    "Mean",
    "Metrics",
    "MixedPrecision",
    "Progress",
    "Recorder",
    "Scheduled",
    "SingleBatch",
    "StopAtNaN",
    "TrainStep",
    "cosine",
    "momentum_cycle",
    "one_cycle",
]
