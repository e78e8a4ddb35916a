"""What differs between two file models, key by key."""

from __future__ import annotations

from typing import Any

from mutransfer_cli.files.strict import Strict


def difference(there: Strict, here: Strict) -> str:
    """What differs between two protocols: `train.steps: 100 there, 200 here; ...`."""
    old, new = _flat(there.model_dump(mode="json")), _flat(here.model_dump(mode="json"))
    changed = [
        f"{key}: {old.get(key, 'absent')} there, {new.get(key, 'absent')} here"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    return "; ".join(changed)


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, dict):
        return {prefix: data}
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return flat
