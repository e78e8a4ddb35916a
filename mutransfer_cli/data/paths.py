"""Which files a path of a spec means: one, those of a folder, or those of a pattern."""

from __future__ import annotations

import glob
from collections.abc import Collection
from pathlib import Path

from mutransfer_cli.errors import InputError


def found_files(path: Path, what: str, suffixes: Collection[str] = ()) -> list[Path]:
    """Sorted by path; a folder's hidden files are left out.

    Args:
        what: one of them, in words.
        suffixes: of the files to take from a folder; without any, all.

    Raises:
        InputError: nothing there, or no file.
    """
    if path.is_dir():
        files = sorted(
            found
            for found in path.rglob("*")
            if found.is_file()
            and not any(part.startswith(".") for part in found.relative_to(path).parts)
            and (not suffixes or found.suffix in suffixes)
        )
        if suffixes and not files:
            raise InputError(
                f"data.path: {path} holds no file named {', '.join(f'*{s}' for s in suffixes)}; "
                "give such a folder, or a pattern such as shards/*"
            )
        return files
    if path.is_file():
        return [path]
    if path.exists():
        raise InputError(
            f"data.path: {path} is neither a file nor a folder; give {what} or a folder of them"
        )
    if glob.has_magic(str(path)):
        files = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
        files = [file for file in files if file.is_file()]
        if files:
            return files
        raise InputError(f"data.path: no file is named {path}; give {what} or a folder of them")
    raise InputError(f"data.path: {path} does not exist; give {what} or a folder of them")
