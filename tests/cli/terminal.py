"""A terminal for tests: runs a command in a pseudo-terminal, and shows what a person would see."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Callable, Sequence

CONTROL = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\x1b\]8;[^\x1b]*\x1b\\|\x1b[78=>]")
ROWS = 30


class Terminal:
    """The characters of a terminal after the bytes that were written to it.

    Attributes:
        gone: lines that have left the top.
        wrapped: lines that were longer than the terminal is wide.
        cursor: whether it is visible.
    """

    def __init__(self, columns: int, rows: int = ROWS) -> None:
        self.columns, self.rows = columns, rows
        self.lines: list[list[str]] = [[]]
        self.gone: list[str] = []
        self.wrapped: list[str] = []
        self.unknown: set[str] = set()
        self.cursor = True
        self._x = self._y = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._rest = ""

    def feed(self, data: bytes) -> None:
        """Process bytes; a control sequence may come in pieces."""
        text = self._rest + self._decoder.decode(data)
        at = 0
        while at < len(text):
            if text[at] != "\x1b":
                self._put(text[at])
                at += 1
                continue
            found = CONTROL.match(text, at)
            if found is None:
                break
            self._control(found[1] or "", found[2] or "")
            at = found.end()
        self._rest = text[at:]

    @property
    def text(self) -> list[str]:
        """All lines that a person can see or scroll to."""
        every = [*self.gone, *("".join(line).rstrip() for line in self.lines)]
        return "\n".join(every).rstrip().split("\n")

    def _put(self, character: str) -> None:
        if character == "\n":
            self._down()
        elif character == "\r":
            self._x = 0
        elif character >= " ":
            if self._x >= self.columns:
                self.wrapped.append("".join(self.lines[self._y]))
                self._x = 0
                self._down()
            line = self.lines[self._y]
            line += [" "] * (self._x + 1 - len(line))
            line[self._x] = character
            self._x += 1

    def _down(self) -> None:
        self._y += 1
        if self._y == len(self.lines):
            self.lines.append([])
        if len(self.lines) > self.rows:
            self.gone.append("".join(self.lines.pop(0)).rstrip())
            self._y -= 1

    def _control(self, values: str, kind: str) -> None:
        number = int(values) if values.isdigit() else 1
        if kind == "A":
            self._y = max(0, self._y - number)
        elif kind == "K":
            assert values == "2"
            self.lines[self._y] = []
        elif values == "?25":
            self.cursor = kind == "h"
        elif kind not in ("m", ""):
            self.unknown.add(values + kind)


class Command:
    """A command in a pseudo-terminal of its own, which it controls."""

    def __init__(self, arguments: Sequence[str], columns: int, rows: int = ROWS) -> None:
        self.terminal = Terminal(columns, rows)
        self.written = b""
        self.started = time.monotonic()
        sizes = {"COLUMNS", "LINES"}  # which readline sets, and which win over the terminal's own
        environment = {name: value for name, value in os.environ.items() if name not in sizes}
        self.pid, self._master = pty.fork()
        if not self.pid:
            # the child: only exec may follow
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execve(arguments[0], list(arguments), environment | {"TERM": "xterm-256color"})
        self.exit_code: int | None = None

    def read(self, seconds: float = 0.1) -> bool:
        """Read what has been written; False at the end."""
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # how Linux says that the other end is closed
            data = b""
        self.written += data
        self.terminal.feed(data)
        return bool(data)

    def until(self, seen: Callable[[str], object], seconds: float = 120.0) -> float:
        """Read until the screen is as wanted; returns the seconds since the start."""
        end = time.monotonic() + seconds
        while not seen("\n".join(self.terminal.text)):
            assert self.read(), f"it ended with {self.terminal.text}"
            assert time.monotonic() < end, self.terminal.text
        return time.monotonic() - self.started

    def types(self, keys: bytes) -> None:
        """Press keys; b"\\x03" is Ctrl-C."""
        os.write(self._master, keys)

    def finish(self, seconds: float = 120.0) -> int:
        """Read to the end; returns the exit code."""
        end = time.monotonic() + seconds
        while self.read():
            assert time.monotonic() < end, self.terminal.text
        os.close(self._master)
        self.exit_code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.exit_code
