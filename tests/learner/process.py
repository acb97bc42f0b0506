"""One of several processes that train together: `python -m tests.learner.process FILE CHECKPOINT` keeps what it did."""

import sys

import torch
import torch.nn.functional as F
from torch import nn

from lib.learner import Accelerated, Accuracy, Callback, Checkpoint, ClipGradients, Learner, Metrics, Progress, Recorder
from tests.learner.problem import SGD, learner, loaders, net


class Gradients(Callback):
    """Keeps the gradients that each step takes."""

    order = 50

    def __init__(self):
        self.seen = []

    def before_step(self, learn):
        self.seen.append([p.grad.clone() for p in learn.model.parameters()])


class Jitter(Callback):
    """Adds noise from torch's own generator to the inputs of training, at the default order."""

    def before_batch(self, learn):
        if learn.training:
            x, y = learn.batch
            learn.batch = x + 0.1 * torch.randn_like(x), y


def train(*callbacks):
    """Train for two epochs on batches of 9, the last of 7; return all that can be compared."""
    torch.manual_seed(0)
    model = net()
    model[1] = nn.Identity()  # a BatchNorm normalises by the rows of its process
    gradients, recorder = Gradients(), Recorder()
    every = [*callbacks, ClipGradients(0.5), gradients, recorder, Metrics(accuracy=Accuracy()), Jitter()]
    learn = Learner(model, loaders(52, 9), F.cross_entropy, SGD, every).fit(2)
    train, valid = loaders(25, 5), loaders(26, 5).train  # 26 items: the last batch is of one
    valid.shuffle = False
    return {
        "gradients": gradients.seen,
        "losses": recorder.losses,
        "epochs": [{k: v for k, v in row.items() if k != "seconds"} for row in recorder.history],
        "weights": model.state_dict(),
        "unwrapped": learn.model is model,
        "evaluated": [learn.evaluate(), learn.evaluate(train.train), learn.evaluate(valid)],
        "captured": learn.capture(valid),
        "lr_find": learn.lr_find(steps=9).losses,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    accelerated = Accelerated()
    torch.save(train(accelerated), sys.argv[1])
    learner([accelerated, Progress(), Checkpoint(sys.argv[2])]).fit(1)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
