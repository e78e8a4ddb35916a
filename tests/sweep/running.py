"""Runs sweeps as commands in their own processes and reads the records and processes they leave."""

from __future__ import annotations

import json
import sys
from pathlib import Path

# (status, eval loss) by (width, rate, seed)
Table = dict[tuple[int, float, int], tuple[str, float | None]]


def command(spec: Path, folder: Path, *options: object) -> list[str]:
    program = [sys.executable, "-m", "mutransfer_cli", "sweep-proxy", str(spec), "-o", str(folder)]
    return [*program, *map(str, options)]


def table(folder: Path) -> Table:
    """Return the trials with whole records; fail if a trial is recorded twice."""
    path = folder / "trials.jsonl"
    lines = path.read_bytes().splitlines(True) if path.exists() else []
    records = [json.loads(line) for line in lines if line.endswith(b"\n")]
    trials = [record for record in records if record["kind"] == "trial"]
    found = {(r["width"], r["lr"], r["seed"]): (r["status"], r["eval_loss"]) for r in trials}
    assert len(found) == len(trials)
    return found


def of_session(leader: int) -> dict[int, str]:
    """Command lines of a session's running processes, by process id."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found[int(status.parent.name)] = command_line(status.parent.name)
    return found


def command_line(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
