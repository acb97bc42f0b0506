"""A log of a fit: a line for each epoch, others in between where asked, and the time before an interruption."""

from lib.learner import Accuracy, LogProgress, Metrics
from tests.learner.problem import learner


def test_a_line_for_each_epoch_and_others_where_asked():
    lines = []
    learner().fit(2, callbacks=[Metrics(accuracy=Accuracy()), LogProgress(lines.append)])
    assert [line.split(":")[0] for line in lines] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert "valid_accuracy" in lines[0]
    lines.clear()
    learner().fit(1, callbacks=[LogProgress(lines.append, every=1)])
    assert lines[0].startswith("epoch 1, batch 1: loss ")
    assert len(lines) > 2


def test_the_time_before_an_interruption_counts():
    progress = LogProgress(print)
    progress.load_state_dict({"seconds": 500.0})
    assert 500 <= progress.state_dict()["seconds"] < 560
