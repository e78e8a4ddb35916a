"""Explanations of faults in files, in our own words: the validating library's reach no user."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mutransfer_cli.located import holds, place_of

# words that people use for ours, in lower case, without spaces, hyphens and underscores
SYNONYMS: dict[str, tuple[str, ...]] = {
    "mup": ("mup", "μp", "maximalupdate", "maximalupdateparametrization", "mutransfer"),
    "standard": ("sp", "standardparametrization", "default"),
    "lr": ("learningrate", "learningrates", "lrs", "rate", "peaklr", "maxlr", "alpha"),
    "weight_decay": ("wd", "decay", "lambda", "l2"),
    "depth": ("nlayers", "nlayer", "layers", "numlayers", "numhiddenlayers", "blocks"),
    "batch": ("batchsize", "bs", "microbatchsize", "globalbatchsize"),
    "context": ("seqlen", "sequencelength", "seqlength", "blocksize", "contextlength", "maxlen"),
    "steps": ("iterations", "iters", "maxiters", "maxsteps", "numsteps", "trainsteps"),
    "warmup": ("warmupsteps", "warmupiters"),
    "clip": ("gradclip", "maxgradnorm", "clipgradnorm", "gradientclipping", "clipping"),
    "heads": ("nheads", "nhead", "numheads", "numattentionheads"),
    "kv_heads": ("nkvheads", "numkeyvalueheads"),
    "head_size": ("headdim", "dhead", "headwidth"),
    "widths": ("width", "dmodel", "hiddensize", "hiddensizes", "nembd"),
    "base_width": ("basewidth", "basedmodel", "basehiddensize", "width"),
    "vocab": ("vocabsize", "nvocab"),
    "seeds": ("seed",),
    "seed": ("seeds",),
    "precision": ("dtype",),
    "fp32": ("float32", "float", "full"),
    "bf16": ("bfloat16", "mixed", "amp"),
    "name": ("type", "kind"),
    "start": ("from",),
    "from": ("start", "min", "low"),
    "to": ("stop", "end", "max", "high"),
    "betas": ("beta", "beta1", "beta2"),
    "eps": ("epsilon",),
    "epsilon": ("eps",),
    "sweep": ("grid", "search"),
    "train": ("training",),
    "data": ("dataset",),
}
EXAMPLES: dict[str, str] = {
    "base_width": "32",
    "widths": "[32, 64, 128]",
    "axes": "{lr: {from: 2^-9, to: 2^-3}}",
    "steps": "150",
    "batch": "8",
    "vocab": "50304",
    "factory": "my_model:build",
    "data": "{source: stdlib}",
    "parameterization": "{name: mup, base_width: 32}",
    "train": "{steps: 150}",
    "sweep": "{widths: [32, 64, 128], axes: {lr: {from: 2^-9, to: 2^-3}}}",
    "optimizer": "{name: adamw}",
    "betas": "[0.9, 0.95]",
    "from": "2^-9",
    "to": "2^-3",
    "name": "mup",
    "path": "corpus.txt",
}
EXPECTED: dict[str, str] = {
    "greater_than": "a number above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "at most {le}",
    "finite_number": "a finite number",
    "int_type": "a whole number such as 32, 1e5 or 2^16",
    "int_parsing": "a whole number such as 32, 1e5 or 2^16",
    "int_parsing_size": "a smaller whole number",
    "int_from_float": "a whole number such as 32, 1e5 or 2^16",
    "float_type": "a number such as 0.001, 3e-4 or 2^-9",
    "float_parsing": "a number such as 0.001, 3e-4 or 2^-9",
    "string_type": "a text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "dict_type": "a mapping of keys",
    "tuple_type": "a list",
    "list_type": "a list",
    "union_tag_not_found": "a mapping of keys",
    "invalid-json-value": "numbers, texts, lists or mappings",
    "recursion_loop": "a value that does not hold itself",
    "none_required": "null",
}


class UnknownKey(ValueError):
    """A mapping has a key that it may not have."""

    def __init__(self, key: Any, valid: Iterable[str]) -> None:
        super().__init__(f"unknown key {str(key)!r}{nearest(str(key), valid)}")
        self.key = key


def nearest(word: str, valid: Iterable[str]) -> str:
    """Suggest a valid word for a wrong one: "; did you mean 'x'? (valid: x, y)"."""
    valid = list(valid)
    found = nearest_of(word, valid)
    hint = f"; did you mean {found!r}?" if found else ""
    return f"{hint} (valid: {', '.join(valid)})"


def nearest_of(word: str, valid: Sequence[str]) -> str | None:
    """The valid word that was meant: the same in other letters, a synonym, or a similar one."""
    plain = _plain(word)
    for one in valid:
        if plain == _plain(one):
            return one
    for one in valid:
        if plain in SYNONYMS.get(one, ()):
            return one
    close = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    return close[0] if close else None


def _plain(word: str) -> str:
    return word.lower().translate(str.maketrans("", "", " -_."))


def shown(value: Any) -> str:
    """A value as YAML writes it, or what kind of value it is."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping of keys"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]" if len(repr(value)) < 40 else "a list"
    return repr(value) if isinstance(value, str | int | float) else str(value)


def key_path(location: tuple[int | str, ...], data: Any, missing: bool) -> list[int | str]:
    """The location of a problem as keys of `data`, without branches of unions."""
    keys: list[int | str] = []
    for part in location:
        if holds(data, part):
            data = data[part]
        elif not (missing and part == location[-1]):
            continue
        keys.append(part)
    return keys


def explain(error: ValidationError, data: Any, model: type[BaseModel] | None = None) -> str:
    """Format problems as `line 1, column 2: key: what is wrong, found ...`, one per line.

    Args:
        data: what was validated, with places if it was read from YAML.
        model: what it was validated as, for the meaning of missing keys.
    """
    lines: list[str] = []
    for problem in _of_meant_branches(error.errors(include_url=False), data):
        is_missing = problem["type"] == "missing"
        keys = key_path(problem["loc"], data, is_missing)
        line = _sentence(problem, keys, data, model)
        place = place_of(data, [*keys, *_named(problem)])
        line = f"{place}: {line}" if place else line
        if line not in lines:
            lines.append(line)
    return lines[0] if len(lines) == 1 else "\n  " + "\n  ".join(lines)


def _named(problem: Any) -> list[str]:
    """The keys at fault within the mapping of a problem, as far as its sentence names them."""
    cause = (problem.get("ctx") or {}).get("error")
    if isinstance(cause, UnknownKey):
        return [cause.key]
    discriminator = (problem.get("ctx") or {}).get("discriminator")
    if isinstance(discriminator, str):
        return [discriminator.strip("'")]
    return str(cause).split(" ")[0].rstrip(":").split(".") if cause else []


def _of_meant_branches(problems: Sequence[Any], data: Any) -> Iterator[Any]:
    """The problems without those of branches of a union that were not meant."""
    deepest: dict[tuple[Any, ...], int] = {}
    kept: dict[tuple[Any, ...], list[Any]] = {}
    for problem in problems:
        keys = tuple(key_path(problem["loc"], data, problem["type"] == "missing"))
        kept.setdefault(keys, []).append(problem)
        deepest[keys] = len(keys)
    for keys, same in kept.items():
        is_mapping = any(keys == other[: len(keys)] and other != keys for other in kept)
        if is_mapping and all(one["type"].endswith(("_type", "literal_error")) for one in same):
            continue
        yield same[0] if len(same) == 1 else _either(same)


def _either(problems: Sequence[Any]) -> Any:
    """One problem for several branches that all refuse the same value."""

    def rank(problem: Any) -> int:
        own = ["value_error", "literal_error"] if isinstance(problem["input"], dict) else []
        own = own or ["literal_error", "value_error"]
        return own.index(problem["type"]) if problem["type"] in own else len(own)

    return min(problems, key=rank)


def _sentence(problem: Any, keys: list[int | str], data: Any, model: type[BaseModel] | None) -> str:
    kind, found, context = problem["type"], problem["input"], problem.get("ctx") or {}
    where = ".".join(map(str, keys))
    before = f"{where}: " if where else ""
    field = next((key for key in reversed(keys) if isinstance(key, str)), "")
    such_as = f", such as {EXAMPLES[field]}" if field in EXAMPLES else ""
    if kind == "missing":
        if keys and isinstance(keys[-1], int):
            whole = ".".join(map(str, keys[:-1]))
            return f"{whole}: expected at least {keys[-1] + 1} values{such_as}{_found(found)}"
        return f"{where} is missing{_meaning(model, problem['loc'])}{such_as}"
    if kind in ("value_error", "assertion_error"):
        what = str(context["error"])
        return before + what + ("" if "found" in what or _is_nested(found) else _found(found))
    if kind == "union_tag_invalid":
        key = context["discriminator"].strip("'")
        tags = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
        if isinstance(found, dict) and isinstance(found.get(key), str):
            return f"{before}{key}: unknown {found[key]!r}{nearest(found[key], tags)}"
        return f"{before}{key}: expected one of {', '.join(tags)}"
    if kind == "literal_error":
        valid = context["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        if isinstance(found, str):
            return f"{before}unknown {str(found)!r}{nearest(found, valid)}"
        return f"{before}expected {' or '.join(valid)}{_found(found)}"
    if kind in ("too_short", "too_long"):
        count = context.get("min_length", context.get("max_length"))
        bound = "at least" if kind == "too_short" else "at most"
        values = "value" if count == 1 else "values"
        return f"{before}expected {bound} {count} {values}{such_as}{_found(found)}"
    expected = EXPECTED.get(kind, "another value").format(**context)
    if kind in ("tuple_type", "list_type"):
        such_as = such_as or ", such as [0, 1]"
    elif kind not in ("model_type", "model_attributes_type", "dict_type", "union_tag_not_found"):
        such_as = ""
    return f"{before}expected {expected}{such_as}{_found(found)}"


def _found(value: Any) -> str:
    return f", found {shown(value)}"


def _is_nested(value: Any) -> bool:
    return isinstance(value, dict | list | tuple | BaseModel)


def _meaning(model: type[BaseModel] | None, location: tuple[int | str, ...]) -> str:
    """The first clause of what the docstring says of a missing key, after a colon."""
    from mutransfer_cli.docstrings import field_descriptions

    key = str(location[-1])
    for owner in _owners(model, location[:-1]):
        about = field_descriptions(owner).get(key)
        if about is not None:
            clause = (
                about.split(", and ")[0].split(". ")[0].split("; ")[0].split(": ")[0].rstrip(".")
            )
            return f": {clause[0].lower()}{clause[1:]}"
    return ""


def _owners(
    model: type[BaseModel] | None, location: tuple[int | str, ...]
) -> list[type[BaseModel]]:
    """The models that may stand at a location, among the branches of unions."""
    found: list[Any] = [] if model is None else [model]
    for part in location:
        below: list[Any] = []
        for kind in found:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                for name, field in kind.model_fields.items():
                    if part in (name, field.alias):
                        below += _branches(field.annotation)
            elif get_origin(kind) in (dict, tuple, list):
                below += [one for arg in get_args(kind)[-2:] for one in _branches(arg)]
        found = below or found
    return [kind for kind in found if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _branches(annotation: Any) -> list[Any]:
    """The types of a union, without annotations."""
    if get_origin(annotation) is Annotated:
        return _branches(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [one for arg in get_args(annotation) for one in _branches(arg)]
    return [] if get_origin(annotation) is Literal else [annotation]
