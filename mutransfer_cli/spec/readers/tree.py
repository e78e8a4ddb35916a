"""Files of a folder, the values in their paths, and the settings beside them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.table import flat
from mutransfer_cli.spec.yaml_io import cannot_read

HYDRA = ".hydra"
# files of a run's settings, by preference
SETTINGS = (
    f"{HYDRA}/config.yaml",
    "hparams.yaml",
    "config.yaml",
    "config.yml",
    "config.json",
    "params.json",
    "args.json",
    "args.yaml",
    "hparams.json",
)
SKIPPED = ("__pycache__", "artifacts", "node_modules")
REST = "rest"  # group: what follows the pattern


@dataclass(frozen=True)
class Tree:
    """A folder with the files that are to be read; paths are relative, with slashes."""

    root: Path
    folders: dict[str, tuple[str, ...]]
    """Sorted file names by folder; the root is the empty text."""
    pattern: re.Pattern[str] | None = None
    """The pattern that chose the files."""

    @property
    def where(self) -> str:
        """The folder's name in messages."""
        return str(self.root)

    @property
    def paths(self) -> list[str]:
        """Paths of all files."""
        return [_joined(folder, name) for folder, names in self.folders.items() for name in names]

    @cached_property
    def _all_folders(self) -> frozenset[str]:
        """Folders, and the folders that they are in."""
        found = set(self.folders)
        for folder in self.folders:
            while "/" in folder:
                folder = folder.rsplit("/", 1)[0]
                found.add(folder)
        return frozenset(found)

    def has_folder(self, folder: str) -> bool:
        """Whether there is such a folder with a file in it, at any depth."""
        return folder in self._all_folders

    def holding(self, name: str) -> list[str]:
        """The folders that hold a file of this name."""
        return [folder for folder, names in self.folders.items() if name in names]

    def inside(self, folder: str) -> Iterator[tuple[str, Path]]:
        """Every file below a folder: its name relative to the folder, and its path."""
        for inner in [name for name in self.folders if f"{name}/".startswith(f"{folder}/")]:
            for name in self.folders[inner]:
                yield _joined(inner, name)[len(folder) + 1 :], self.root / inner / name

    def values(self, path: str) -> dict[str, str]:
        """The values that the pattern finds in a path, by name."""
        found = self.pattern.fullmatch(path) if self.pattern else None
        if found is None:
            return {}
        names = _names(self.pattern)
        return {name: found[group] for group, name in names.items()}

    def settings(self, path: str) -> dict[str, Any]:
        """The settings of the run that a file belongs to, and the values in its path.

        Settings are read from the file's own folder and from those above it, up to the root; the
        nearest count. They are columns `config.NAME`, and values in the path are columns NAME.

        Args:
            path: of a file.

        Raises:
            InputError: a file of settings cannot be read.
        """
        found: dict[str, Any] = {}
        folder = self.root
        for part in ["", *path.split("/")[:-1]]:
            folder = folder / part if part else folder
            found |= _settings_in(folder)
        return {f"config.{name}": value for name, value in found.items()} | self.values(path)


def tree_of(root: Path, pattern: str | None = None) -> Tree:
    """List a folder, without hidden folders (but Hydra's) and without following links.

    Args:
        pattern: keeps the files whose path, or the end of it, has this form:
            `width{width}_lr{lr}/log.csv`, with * for anything within a name. A pattern that names
            a folder keeps the files in it.

    Raises:
        InputError: the folder cannot be read, or the pattern is none or fits no file.
    """
    folders = {}

    def fail(error: OSError) -> None:
        raise cannot_read(error.filename or root, error) from error

    for here, inner, names in os.walk(root, onerror=fail):
        hidden = [name for name in inner if name.startswith(".") and name != HYDRA]
        inner[:] = sorted(set(inner).difference(hidden, SKIPPED))
        relative = Path(here).relative_to(root).as_posix()
        if names:
            folders["" if relative == "." else relative] = tuple(sorted(names))
    tree = Tree(root, dict(sorted(folders.items())))
    return tree if pattern is None else _chosen(tree, pattern)


def _chosen(tree: Tree, pattern: str) -> Tree:
    regex = path_regex(pattern)
    matches = [(path, found) for path in tree.paths if (found := regex.fullmatch(path))]
    exact = [path for path, found in matches if not found[REST]]
    kept = exact or [path for path, _ in matches]
    if not kept:
        shown = ", ".join(tree.paths[:3]) or "none"
        raise InputError(
            f"path_pattern {pattern}: fits none of the files in {tree.where} (the first are "
            f"{shown}); write the name of each value in braces, such as "
            "width{width}_lr{lr}/log.csv",
            setting="path_pattern",
        )
    folders: dict[str, list[str]] = {}
    for path in kept:
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, []).append(name)
    return Tree(tree.root, {folder: tuple(names) for folder, names in folders.items()}, regex)


def path_regex(pattern: str) -> re.Pattern[str]:
    """The regular expression of a path pattern.

    Raises:
        InputError: braces that do not hold a name, or hold one twice.
    """
    parts, names = [], list[str]()
    for part in re.split(r"(\{[^{}]*\}|\*\*|\*)", pattern.strip("/")):
        if part == "**":
            parts.append(".*")
        elif part == "*":
            parts.append("[^/]*")
        elif part.startswith("{"):
            name = part[1:-1].strip()
            if not re.fullmatch(r"[A-Za-z_][\w.-]*", name) or name in names:
                raise InputError(
                    f"path_pattern {pattern}: {part} is not a name, or is there twice; write for "
                    "example width{width}_lr{lr}/log.csv",
                    setting="path_pattern",
                )
            names.append(name)
            parts.append(f"(?P<{_group(name)}>[^/]+?)")
        else:
            parts.append(re.escape(part))
    return re.compile(f"(?:.*/)?{''.join(parts)}(?P<{REST}>/.*)?")


def _group(name: str) -> str:
    """A name as the name of a group, which holds letters, digits and underscores only."""
    return "v_" + re.sub(r"[.-]", lambda found: f"_{ord(found[0])}_", name)


def _names(pattern: re.Pattern[str] | None) -> dict[str, str]:
    groups = [group for group in pattern.groupindex if group != REST] if pattern else []
    return {
        group: re.sub(r"_(45|46)_", lambda found: chr(int(found[1])), group[2:]) for group in groups
    }


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _settings_in(folder: Path) -> dict[str, Any]:
    """Flat settings of the first known file in a folder."""
    for name in SETTINGS:
        path = folder / name
        if path.is_file():
            found = read_yaml_file(path) if path.suffix != ".json" else read_json_file(path)
            return {key: value for key, value in flat(found).items() if not key.startswith("_")}
    return {}


# libyaml reads many times faster, but some installations of PyYAML lack it
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A safe loader for which 1e-3 is a number too, as in YAML 1.2."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def read_yaml_file(path: Path) -> dict[str, Any]:
    """Read a mapping in YAML; tags of Python objects are refused, never executed.

    Raises:
        InputError: it cannot be read, or is something else.
    """
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - safe
    except OSError as error:
        raise cannot_read(path, error) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise InputError(
            f"{path}{line}: not plain YAML, or an object of Python; log numbers and texts as "
            "hyperparameters, or give a table of the runs as CSV"
        ) from error
    return found if isinstance(found, dict) else {}


def read_json_file(path: Path) -> dict[str, Any]:
    """Read an object in JSON.

    Raises:
        InputError: it cannot be read, or is something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise cannot_read(path, error) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); write it again") from error
    return found if isinstance(found, dict) else {}
