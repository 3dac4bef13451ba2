import logging

import pytest

from simulacra.training import progress
from simulacra.training.progress import Progress, announced, sampling


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line whenever there is something to say."""
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)


def test_a_training_speaks_when_a_loss_was_read(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), Progress("vae", done=0, steps=3) as shown:
        for loss in (None, 1.5, None):
            shown.advance(loss)
    (line,) = caplog.messages
    assert line.startswith("vae: step 2 of 3, loss 1.5, ") and line.endswith("s left")


def test_sampling_speaks_of_each_step_once_it_was_announced(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), announced("gan, drawing"), sampling(2) as shown:
        assert list(shown.over("ab")) == ["a", "b"]
    first, second = caplog.messages
    assert first.startswith("gan, drawing: step 1 of 2, ") and second.startswith("gan, drawing: step 2 of 2, ")
    assert "loss" not in first


def test_a_quick_look_at_samples_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with announced("gan"):
        pass
    with caplog.at_level(logging.INFO), sampling(2) as shown:
        list(shown.over("ab"))
    assert caplog.messages == [] and shown.bar.disable
