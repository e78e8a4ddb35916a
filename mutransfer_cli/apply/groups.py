"""Parameters with equal values as the groups that torch optimizers take."""

from __future__ import annotations

from typing import Any

from mutransfer_cli.apply.target import TargetParameter, Targets

ALL = "all"  # the name of the group of a recipe for all parameters alike


def merged_groups(targets: Targets) -> list[dict[str, Any]]:
    groups: dict[tuple[object, ...], dict[str, Any]] = {}
    for claimed, target in targets:
        values = settings_of(target)
        group = groups.setdefault(
            tuple(values.values()), {"params": [], "param_names": [], **values, "name": []}
        )
        group["params"].append(claimed.tensor)
        group["param_names"].append(target.name)
        if (target.role or ALL) not in group["name"]:
            group["name"].append(target.role or ALL)
    for group in groups.values():
        group["name"] = ", ".join(group["name"])
        for key in ("weight_decay", "eps", "betas"):
            if group[key] is None:
                del group[key]
    return list(groups.values())


def settings_of(target: TargetParameter) -> dict[str, Any]:
    return {
        "lr": target.lr,
        "weight_decay": target.weight_decay,
        "eps": target.eps,
        "betas": target.betas,
    }
