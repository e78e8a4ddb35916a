"""What a file model's docstring says of its fields: the only place where they are explained.

An `Attributes:` section holds `name: text` or `name, name: text`, further lines indented deeper.
"""

from __future__ import annotations

import inspect
import re

from mutransfer_cli.files.strict import Closed

SECTION = re.compile(r"^([A-Z]\w+):\n", re.MULTILINE)
ENTRY = re.compile(r"^ {4}(\S[\w.]*(?:, \S[\w.]*)*): ", re.MULTILINE)


def own_attributes(owner: type) -> dict[str, str]:
    """The entries of the class's own docstring, each as one line."""
    _, *sections = SECTION.split(_docstring(owner))
    texts = dict(zip(sections[::2], sections[1::2], strict=True))
    _, *entries = ENTRY.split(texts.get("Attributes", ""))
    return {
        name: " ".join(text.split())
        for names, text in zip(entries[::2], entries[1::2], strict=True)
        for name in names.split(", ")
    }


def summary(owner: type) -> str:
    """The docstring up to its sections, a line a paragraph."""
    paragraphs = SECTION.split(_docstring(owner))[0].split("\n\n")
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs).strip()


def descriptions(model: type[Closed]) -> dict[str, str]:
    """The description of every field, by its name in the file.

    Of a field without an entry in the model's own docstring it is that of its bases, else that of
    the classes in `EXPLAINED_BY`.

    Raises:
        LookupError: a field without one.
    """
    owners = [base for owner in (model, *model.EXPLAINED_BY) for base in owner.__mro__]
    found: dict[str, str] = {}
    for owner in reversed(owners):
        found |= own_attributes(owner)
    names = [field.alias or name for name, field in model.model_fields.items()]
    for name in names:
        if name not in found:
            raise LookupError(f"{model.__name__}.{name}: has no entry under `Attributes:`")
    return {name: found[name] for name in names}


def _docstring(owner: type) -> str:
    return inspect.cleandoc(owner.__dict__.get("__doc__") or "") + "\n"
