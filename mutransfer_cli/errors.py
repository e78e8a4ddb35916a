"""The errors of the package: each has one sentence for the user and a documented exit code."""

from __future__ import annotations


class MutransferError(Exception):
    """Root of all errors that a user can act on; the command ends with `exit_code`.

    The library names its own arguments; the command line shows the options that set them.

    Args:
        sentence: says what is wrong, where, and what to do.
        setting: the argument at fault, if any; `weight_decay` is shown as `--weight-decay`.
        remedy: the argument that would help, if any, or several; `last step` is shown as
            `--last step`.
    """

    exit_code = 1

    def __init__(
        self,
        sentence: str,
        *,
        setting: str | None = None,
        remedy: str | tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(sentence)
        self.setting, self.remedy = setting, remedy


class StorageError(MutransferError):
    """The machine refused to store a result (full disk, lost folder); earlier results stay."""


class InputError(MutransferError):
    """The user's spec, files, options or stdin cannot be used as they are."""

    exit_code = 2


class InsufficientEvidence(MutransferError):
    """The data are fine but do not support an answer."""

    exit_code = 4


class SweepIncomplete(MutransferError):
    """Some trials failed; the others are recorded."""

    exit_code = 5


class NotExpressible(MutransferError):
    """The recipe holds values that the requested format cannot express."""

    exit_code = 6


class SweepInterrupted(MutransferError):
    """The user stopped the sweep; its records stay, and it can be resumed."""

    exit_code = 130
