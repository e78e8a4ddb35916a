"""Where workers of a Ray cluster leave what they have for the driver."""

from __future__ import annotations

from typing import Any


class Inbox:
    """An actor. Messages are plain values: it need not import what they are made of."""

    def __init__(self) -> None:
        self._messages: list[Any] = []

    def put(self, message: Any) -> None:
        self._messages.append(message)

    def take(self) -> list[Any]:
        taken, self._messages = self._messages, []
        return taken
