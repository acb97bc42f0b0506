"""The training loop and its callbacks."""

from lib.data.loaders import DataLoaders
from lib.learner.callback import Callback, CancelBatch, CancelEpoch, CancelFit, CancelPass, CancelStep, LearnerState
from lib.learner.callbacks.accelerate import Accelerated
from lib.learner.callbacks.activations import ActivationStats
from lib.learner.callbacks.checkpoint import Checkpoint
from lib.learner.callbacks.clipping import ClipGradients
from lib.learner.callbacks.device import DeviceCallback
from lib.learner.callbacks.ema import EMA
from lib.learner.callbacks.log import LogProgress
from lib.learner.callbacks.lr_finder import LRFinderResult
from lib.learner.callbacks.metrics import Accuracy, Mean, Metrics
from lib.learner.callbacks.precision import MixedPrecision
from lib.learner.callbacks.progress import Progress
from lib.learner.callbacks.recorder import Recorder
from lib.learner.callbacks.schedules import Scheduled, cosine, momentum_cycle, one_cycle, through
from lib.learner.callbacks.stopping import EarlyStopping, SingleBatch, TerminateOnNaN
from lib.learner.callbacks.transform import BatchTransform
from lib.learner.events import EVENTS
from lib.learner.learner import Learner
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
    "CancelStep",
    "Checkpoint",
    "ClipGradients",
    "DataLoaders",
    "DeviceCallback",
    "EarlyStopping",
    "LRFinderResult",
    "Learner",
    "LearnerState",
    "LogProgress",
    "Mean",
    "Metrics",
    "MixedPrecision",
    "Progress",
    "Recorder",
    "Scheduled",
    "SingleBatch",
    "TerminateOnNaN",
    "TrainStep",
    "cosine",
    "momentum_cycle",
    "one_cycle",
    "through",
]
