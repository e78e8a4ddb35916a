"""Variants of a sweep spec: the same experiment at another size."""

from __future__ import annotations

from typing import Any

from mutransfer_cli.errors import InputError
from mutransfer_cli.files.strict import nearest

VARIANTS = "variants"


def variants_of(document: Any, where: str) -> dict[str | None, Any]:
    """Every variant as a whole spec, and under None the spec without one.

    Args:
        document: as parsed; `variants` holds by name what replaces keys of its sections.

    Raises:
        InputError: variants that are no mapping of sections.
    """
    if not isinstance(document, dict) or VARIANTS not in document:
        return {None: document}
    plain = {key: value for key, value in document.items() if key != VARIANTS}
    variants = document[VARIANTS]
    if not isinstance(variants, dict):
        raise InputError(f"{where}: variants: expected names with sections, found {variants!r}")
    found: dict[str | None, Any] = {None: plain}
    for name, sections in variants.items():
        if not isinstance(sections, dict):
            raise InputError(
                f"{where}: variants.{name}: expected sections of a spec, found {sections!r}"
            )
        found[str(name)] = plain | {
            key: _merged(plain.get(key), section) for key, section in sections.items()
        }
    return found


def _merged(section: Any, change: Any) -> Any:
    both = isinstance(section, dict) and isinstance(change, dict)
    return section | change if both else change


def chosen(variants: dict[str | None, Any], name: str | None, where: str) -> Any:
    """
    Raises:
        InputError: no variant of that name.
    """
    if name not in variants:
        names = [known for known in variants if known is not None]
        hint = nearest(str(name), names) if names else "; the spec has none"
        raise InputError(f"--variant {name}: unknown in {where}{hint}")
    return variants[name]
