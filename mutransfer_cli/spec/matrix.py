"""Several specs in one file: `rows` share most of their keys, `variants` are other sizes of a spec.

Both replace keys of sections. A document is handled here as parsed, before it is validated.
"""

from __future__ import annotations

from typing import Any

from mutransfer_cli.errors import InputError
from mutransfer_cli.explain import shown
from mutransfer_cli.located import LocatedMapping, at, place_of

ROWS = "rows"
VARIANTS = "variants"


def rows_of(document: Any, where: str, path: str = ROWS) -> dict[str, Any]:
    """Return every row as a whole spec, by name; a file that is one spec has none.

    A row may hold rows itself: it is then no spec, only what they share.

    Args:
        path: the key of the rows, such as `rows.group.rows`.

    Raises:
        InputError: rows that are not mappings of sections, or two of the same name.
    """
    if not isinstance(document, dict) or ROWS not in document:
        return {}
    found: dict[str, Any] = {}
    for name, row in _named_sections(document, ROWS, where, path).items():
        spec = _changed(_without(document, ROWS), row)
        specs = rows_of(spec, where, f"{path}.{name}.{ROWS}") if ROWS in row else {name: spec}
        if repeated := found.keys() & specs.keys():
            place = place_of(document, [ROWS, name, ROWS, min(repeated)])
            raise InputError(at(where, place, path, f"row {min(repeated)!r} is written twice"))
        found |= specs
    return found


def variants_of(document: Any, where: str, part: str = "") -> dict[str | None, Any]:
    """Return every variant as a whole spec, by name, and under None the spec without one.

    Args:
        part: the part of the file that the document is, such as `row small`.

    Raises:
        InputError: variants that are not mappings of sections.
    """
    if not isinstance(document, dict) or VARIANTS not in document:
        return {None: document}
    plain = _without(document, VARIANTS)
    path = f"{part}: {VARIANTS}" if part else VARIANTS
    variants = _named_sections(document, VARIANTS, where, path)
    return {None: plain} | {name: _changed(plain, part) for name, part in variants.items()}


def _named_sections(
    document: dict[Any, Any], key: str, where: str, path: str
) -> dict[str, dict[str, Any]]:
    named = document[key]
    if not isinstance(named, dict):
        expected = f"expected names with sections, found {shown(named)}"
        raise InputError(at(where, place_of(document, [key]), path, expected))
    for name, sections in named.items():
        if not isinstance(sections, dict):
            expected = f"expected sections of a spec, found {shown(sections)}"
            place = place_of(document, [key, name])
            raise InputError(at(where, place, f"{path}.{name}", expected))
    return {str(name): sections for name, sections in named.items()}


def _without(document: dict[Any, Any], key: str) -> dict[Any, Any]:
    if isinstance(document, LocatedMapping):
        return document.without(key)
    return {other: value for other, value in document.items() if other != key}


def _changed(spec: dict[Any, Any], changes: dict[Any, Any]) -> dict[Any, Any]:
    """A spec with the keys of its sections, and of those of its variants, that `changes` gives."""
    depths = {VARIANTS: 3}
    merged = {
        key: _merged(spec.get(key), change, depths.get(key, 1)) for key, change in changes.items()
    }
    return spec | changes | merged


def _merged(old: Any, new: Any, depth: int) -> Any:
    if not depth or not isinstance(old, dict) or not isinstance(new, dict):
        return new
    merged = {key: _merged(old.get(key), value, depth - 1) for key, value in new.items()}
    return old | new | merged
