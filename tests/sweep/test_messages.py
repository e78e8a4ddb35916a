"""Messages between driver and workers."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

from mutransfer_cli.errors import InputError
from mutransfer_cli.sweep.choice import TOP, Settings
from mutransfer_cli.sweep.messages import Assignment, Group, Message, Refused
from mutransfer_cli.sweep.prepare import Trial

TRIALS = tuple(Trial(f"t{n}", 16, 0, {"lr": 2.0**-n}) for n in range(3))
SETTINGS = Settings("auto", False, 60.0)


def attempt(group: Group, left: tuple[Trial, ...], folder: Path) -> Assignment:
    return Assignment(group, 2, left, folder, (), "cpu", SETTINGS, TOP)


def test_a_checkpoint_lies_where_the_worker_can_write(tmp_path: Path) -> None:
    group = Group(16, TRIALS)
    seen, unseen = (
        attempt(group, (), folder) for folder in (tmp_path, tmp_path / "on-the-driver-only")
    )
    name = f"checkpoint-{group.id}.pt"
    assert seen.checkpoint == tmp_path / name
    assert unseen.checkpoint == Path(tempfile.gettempdir()) / name


def test_a_group_keeps_its_name_whatever_is_left_of_it(tmp_path: Path) -> None:
    group = Group(16, TRIALS)
    whole, rest = (attempt(group, left, tmp_path) for left in (TRIALS, TRIALS[1:]))
    assert whole.key == rest.key == (group.id, 2)
    assert whole.queue == group.id != rest.queue
    assert Group(16, TRIALS[1:]).id == rest.queue


def test_an_error_arrives_with_what_the_command_line_needs_to_show_it() -> None:
    error = InputError("device cuda: none", setting="device", remedy="workers")
    sent = pickle.loads(pickle.dumps(Message("g", 1, Refused(error))))
    assert sent.key == ("g", 1)
    assert isinstance(sent.content.error, InputError)
    assert str(sent.content.error) == "device cuda: none"
    assert (sent.content.error.setting, sent.content.error.remedy) == ("device", "workers")
