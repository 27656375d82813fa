"""Progress: a bar on a terminal, lines now and then in a log."""

import sys

import pytest

from lab.process import progress
from lab.process.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that is set by hand: its last entry is the time."""
    times = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: times[-1])
    return times


def test_a_log_gets_a_line_now_and_then_and_at_the_end(clock: list[float], capsys: pytest.CaptureFixture) -> None:
    bar = Progress("cycle 3, training", 10, "epochs")
    for epoch in range(1, 11):
        clock.append(epoch * 8.0)
        bar.update(loss=f"{epoch / 10:.1f}", accuracy=f"{epoch * 5}%")
    assert capsys.readouterr().out.splitlines() == [
        "cycle 3, training: 3 of 10 epochs, loss 0.3, accuracy 15%, 24 s gone, 56 s left",
        "cycle 3, training: 6 of 10 epochs, loss 0.6, accuracy 30%, 48 s gone, 32 s left",
        "cycle 3, training: 9 of 10 epochs, loss 0.9, accuracy 45%, 72 s gone, 8 s left",
        "cycle 3, training: 10 of 10 epochs, loss 1.0, accuracy 50%, 80 s",
    ]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = Progress("cycle 3, training", 2, "epochs")
    for _ in range(2):
        bar.update(loss="0.5", accuracy="50%")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "cycle 3, training: 100%" in printed.err
    assert "2/2" in printed.err
    assert "loss=0.5, accuracy=50%" in printed.err
