"""The error family: each error is one sentence for the user and one documented exit code."""

from __future__ import annotations


class MutransferError(Exception):
    """Root of all errors that a user can act on; `exit_code` is what the command ends with.

    The library names its own arguments; the command line shows the options that set them.

    Args:
        sentence: what is wrong, where, and what to do.
        setting: the argument at fault, if it is one: `weight_decay` is option `--weight-decay`.
        remedy: the argument that would help.
    """

    exit_code = 1

    def __init__(
        self, sentence: str, *, setting: str | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(sentence)
        self.setting, self.remedy = setting, remedy


class StorageError(MutransferError):
    """The machine refused to keep a result (full disk, lost folder); what was written stays."""


class InputError(MutransferError):
    """The user's spec, files, options or stdin cannot be used as they are."""

    exit_code = 2


class InsufficientEvidence(MutransferError):
    """The data are fine but do not support an answer."""

    exit_code = 4


class SweepIncomplete(MutransferError):
    """Some trials failed; the rest is recorded."""

    exit_code = 5


class NotExpressible(MutransferError):
    """The recipe holds what the format asked for cannot."""

    exit_code = 6


class SweepInterrupted(MutransferError):
    """The user stopped the sweep; what was recorded stays and the sweep can be resumed."""

    exit_code = 130
