"""The error family: each error is one sentence for the user and one documented exit code."""

from __future__ import annotations


class MutransferError(Exception):
    """Root of all errors that a user can act on; `exit_code` is what the command ends with."""

    exit_code = 1


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
