"""Where workers of a Ray cluster leave what they have for the driver."""

from __future__ import annotations


class Inbox:
    """An actor. It holds pickled messages: it need not import what they are made of."""

    def __init__(self) -> None:
        self._messages: list[bytes] = []

    def put(self, message: bytes) -> None:
        self._messages.append(message)

    def take(self) -> list[bytes]:
        taken, self._messages = self._messages, []
        return taken
