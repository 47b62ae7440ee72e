"""What long work tells: how far it is, and how long it still takes."""

from __future__ import annotations

import io

from rich.console import Console

from testbed.cli.console import LINE_EVERY_S, ConsoleReporter


class Clock:
    """Seconds, as a test sets them."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def told(shares: list[tuple[float, float]], terminal: bool = False) -> str:
    """What is printed of one phase; shares: after so many seconds, so much is done."""
    out, clock = io.StringIO(), Clock()
    console = Console(file=out, width=80, force_terminal=terminal, color_system=None)
    with ConsoleReporter(None, console, clock) as reporter:
        reporter.phase("search")
        for after_s, share in shares:
            clock.now_s = 100.0 + after_s
            reporter.progress(share)
        if terminal:
            reporter.refresh()
    return out.getvalue()


def test_the_first_line_comes_before_any_work() -> None:
    assert told([]) == "  0:00  search\n"


def test_without_a_terminal_there_are_lines_and_no_control_characters() -> None:
    text = told([(1.0, 0.1), (11.0, 0.2), (12.0, 0.21), (21.0, 0.3), (90.0, 1.0)])
    assert text == "  0:00  search\n  0:11  20 %, about 1:20 left\n  0:21  30 %, about 1:10 left\n"


def test_quick_work_is_one_line() -> None:
    assert told([(1.0, 0.5), (LINE_EVERY_S - 0.1, 0.9)]) == "  0:00  search\n"


def test_what_was_done_before_an_interrupt_says_nothing_of_the_pace() -> None:
    """Nine tenths lay in the folder already; the rest goes at one percent in ten seconds."""
    assert "0:31  93 %, about 1:10 left" in told([(1.0, 0.90), (11.0, 0.91), (21.0, 0.92), (31.0, 0.93)])


def test_on_a_terminal_the_bar_says_how_long_it_still_takes() -> None:
    assert "30 %, about 1:10 left" in told([(1.0, 0.1), (21.0, 0.3)], terminal=True)


def test_a_new_phase_is_estimated_anew() -> None:
    out, clock = io.StringIO(), Clock()
    with ConsoleReporter(None, Console(file=out, width=80), clock) as reporter:
        reporter.phase("a")
        reporter.progress(0.5)
        clock.now_s += 100
        reporter.phase("b")
        reporter.progress(0.1)
        clock.now_s += 20
        reporter.progress(0.3)
    assert out.getvalue().splitlines()[-1] == "  2:00  30 %, about 1:10 left"
