"""The drawing of a sweep in training: one line of progress and a table of widths, in any room.

Nothing is wrapped or cut: with less room the line says less, and the table has fewer columns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mutransfer_cli.cli.console import console
from mutransfer_cli.cli.talk import is_quiet
from mutransfer_cli.errors import SweepInterrupted
from mutransfer_cli.words import about, loss, rate, roughly

if TYPE_CHECKING:
    from types import TracebackType

    from rich.text import Text

GAP = "  "
SHORTEST_BAR, LONGEST_BAR = 5, 40
DONE, TO_DO = "━", "─"
ASCII = str.maketrans(DONE + TO_DO, "#-")  # for terminals that have no other characters
REFRESH = 4  # times a second
# columns of the table, from the first that is left out for want of room
LEFT_OUT_FIRST = (
    *("FLOP/s", "of peak", "tokens/s", "trials/h", "failed", "alive", "trials", "diverged", "loss"),
)
# variants of the parts of the line, from the roomiest combination
LEVELS = (
    *((0, 0, 0, 0), (0, 0, 0, 1), (1, 0, 0, 1), (1, 0, 0, 2), (1, 1, 0, 2), (1, 1, 1, 2)),
    *((2, 1, 1, 2), (2, 1, 1, 3), (2, 1, 2, 3), (2, 1, 3, 3), (2, 2, 3, 3)),
)


@dataclass(frozen=True)
class Best:
    """The trial with the lowest loss so far."""

    loss: float
    lr: float
    width: int

    def __str__(self) -> str:
        return f"best lr {rate(self.lr)}, loss {loss(self.loss)}"


@dataclass(frozen=True)
class State:
    """A sweep in training, at one moment.

    Attributes:
        share: the part that is done, from 0 to 1.
        left: seconds left; None: nothing was timed yet.
        widths: in training.
        alive: trials whose losses are finite.
    """

    share: float
    left: float | None
    widths: Sequence[int]
    alive: int
    diverged: int
    best: Best | None


def progress_line(state: State, columns: int) -> str:
    """The state in one line of less than `columns` characters, with a bar in the rest of them."""
    parts = (_left(state.left), _widths(state.widths), _counts(state), _best(state.best))
    percent = f"{int(100 * state.share)}%"  # 100% only at the end
    for level in LEVELS:
        chosen = [variants[at] for variants, at in zip(parts, level, strict=True)]
        text = GAP.join([percent, *filter(None, chosen)])
        room = columns - 1 - len(GAP) - len(text)
        if room >= SHORTEST_BAR:
            break
    return f"{_bar(state.share, room)}{GAP}{text}" if room >= SHORTEST_BAR else percent


def _bar(share: float, room: int) -> str:
    length = min(room, LONGEST_BAR)
    done = min(length, int(share * length + 0.5))
    return DONE * done + TO_DO * (length - done)


def _left(seconds: float | None) -> tuple[str, str, str]:
    if seconds is None:
        return "timing the first steps", "timing steps", "timing"
    return f"about {about(seconds)} left", f"{about(seconds)} left", roughly(seconds)


def _widths(widths: Sequence[int]) -> tuple[str, str, str]:
    if not widths:
        return "", "", ""
    if len(widths) > 2:
        first, last = min(widths), max(widths)
        return f"widths {first} to {last}", f"w{first}-{last}", ""
    word = "width" if len(widths) == 1 else "widths"
    names = [str(width) for width in widths]
    return f"{word} {' and '.join(names)}", f"w{','.join(names)}", ""


def _counts(state: State) -> tuple[str, str, str, str]:
    alive, diverged = state.alive, state.diverged
    short = f"{_short(alive)} alive {_short(diverged)} div"
    return f"{alive} alive, {diverged} diverged", f"{alive} alive {diverged} div", short, ""


def _short(count: int) -> str:
    """The count in at most four characters: 12k, 3M."""
    if count < 10_000:
        return str(count)
    return f"{count // 1000}k" if count < 1_000_000 else f"{count // 1_000_000}M"


def _best(best: Best | None) -> tuple[str, str, str, str]:
    if best is None:
        return "", "", "", ""
    lr, lowest = rate(best.lr), loss(best.loss)
    at_width = f"best lr {lr} at width {best.width}, loss {lowest}"
    return at_width, str(best), f"lr {lr}, loss {lowest}", f"lr {lr} {lowest}"


def table_lines(rows: Sequence[Mapping[str, str]], columns: int) -> list[str]:
    """Rows by the names of their columns, aligned, with as many columns as there is room for."""
    if not rows:
        return []
    sizes = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    for name in LEFT_OUT_FIRST:
        if sum(sizes.values()) + len(GAP) * (len(sizes) - 1) < columns:
            break
        sizes.pop(name, None)
    names = {name: name for name in sizes}
    return [
        GAP.join(row[name].rjust(size) for name, size in sizes.items()) for row in (names, *rows)
    ]


# makes lines for so many columns and lines
Draw = Callable[[int, int], Sequence[str]]


class Screen:
    """The part of a terminal that is drawn again and again; without a terminal, nothing is drawn.

    What is said meanwhile appears above it.
    """

    def __init__(self) -> None:
        from rich.live import Live

        self._console = console(to_stderr=True)
        self._draw: Draw = lambda columns, lines: []
        terminal = self._console.is_terminal and not self._console.is_dumb_terminal
        self.live = terminal and not is_quiet()
        self._live = Live(
            console=self._console,
            get_renderable=self._rendered,
            refresh_per_second=REFRESH,
            transient=True,
            redirect_stdout=False,  # stdout carries results
        )
        self.says("starting")

    def __enter__(self) -> Screen:
        if self.live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.clear()

    def says(self, what: str) -> None:
        """Draw what is happening, and for how long it has been."""
        since = time.monotonic()
        self.draws(lambda columns, lines: [f"{what} ... {time.monotonic() - since:.0f} s"])

    def draws(self, draw: Draw) -> None:
        """Draw these lines from now on."""
        self._draw = draw
        if self._live.is_started:
            self._live.refresh()

    def clear(self) -> None:
        """Remove what was drawn, for good."""
        if self._live.is_started:
            self._live.stop()

    @property
    def columns(self) -> int:
        """Room of a line."""
        return self._console.width

    def prints(self, line: str) -> None:
        """Print a line that stays, whatever its length."""
        self._console.print(line, soft_wrap=True, markup=False)

    def _rendered(self) -> Text:
        from rich.text import Text

        # the cursor waits in a line of its own, where ^C appears and is drawn over
        lines = [*self._draw(self._console.width, self._console.height - 1), " "]
        text = "\n".join(lines)
        if self._console.options.ascii_only:
            text = text.translate(ASCII)
        return Text(text, no_wrap=True, overflow="ignore", end="")


def stopped(saved: int, folder: Path) -> SweepInterrupted:
    """The end of a sweep that the user has stopped."""
    trials = f"{saved} trial{'' if saved == 1 else 's'}"
    return SweepInterrupted(f"Stopped: {trials} saved in {folder}. Run the same command to resume.")
