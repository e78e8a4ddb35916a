from __future__ import annotations

import signal

import pytest

from mutransfer_cli.errors import SweepInterrupted
from mutransfer_cli.sweep.stop import SIGNALS, Interrupt


def test_the_first_ctrl_c_waits_for_a_check_and_the_second_does_not() -> None:
    with Interrupt() as interrupt:
        interrupt.check()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_afterwards_ctrl_c_is_what_it_was() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupt():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_before_the_training_the_first_ctrl_c_is_raised_and_others_are_ignored() -> None:
    with Interrupt(at_once=True):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)


def test_a_command_that_was_stopped_ends_in_peace() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    try:
        with pytest.raises(SweepInterrupted), Interrupt(at_once=True):
            raise SweepInterrupted("stopped")
        for number in SIGNALS:
            signal.raise_signal(number)
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)


def test_while_the_command_ends_further_ones_are_ignored() -> None:
    with Interrupt():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
