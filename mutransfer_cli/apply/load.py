"""Reading a recipe to apply it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from mutransfer_cli.apply.claims import RolePattern
from mutransfer_cli.apply.recipe import LoadedRecipe
from mutransfer_cli.errors import InputError
from mutransfer_cli.files.recipe import Recipe
from mutransfer_cli.files.strict import nearest, validated
from mutransfer_cli.files.yaml_io import load_yaml, read_text
from mutransfer_cli.rules.roles import Role
from mutransfer_cli.rules.weight_decay import DecayConvention

Patterns = Mapping[Role, str | Sequence[str]]


def load_recipe(
    source: str | os.PathLike[str] | IO[Any],
    *,
    patterns: Patterns | None = None,
    decay_convention: DecayConvention | None = None,
) -> LoadedRecipe:
    """A recipe that `mutransfer transfer` wrote, to be applied to a model.

    Args:
        source: a path, an open file, or "-" for stdin; YAML or JSON.
        patterns: role to regex or regexes for whole parameter names, in place of the recipe's own,
            for a model whose names are others than those of the proxies. Init stds are then not
            known.
        decay_convention: of a weight decay whose convention the recipe does not say.

    Raises:
        InputError: it cannot be read, is no recipe, or a pattern is no regex or of a role that
            the recipe lacks.
    """
    text, where = _text_of(source)
    recipe = validated(Recipe, load_yaml(text, where), where)
    if patterns is None:
        return loaded(recipe, where, decay_convention)
    return _with(recipe, where, _given_patterns(recipe, patterns, where), decay_convention)


def loaded(
    recipe: Recipe, where: str, decay_convention: DecayConvention | None = None
) -> LoadedRecipe:
    """A recipe that was read already, with its own patterns; load_recipe's errors."""
    return _with(recipe, where, _own_patterns(recipe), decay_convention)


def _with(
    recipe: Recipe,
    where: str,
    known: tuple[RolePattern, ...],
    decay_convention: DecayConvention | None,
) -> LoadedRecipe:
    for pattern in known:
        try:
            re.compile(pattern.regex)
        except re.error as error:
            raise InputError(
                f"{where}: {pattern.regex} ({pattern.role}) is no regex ({error}); correct it"
            ) from error
    return LoadedRecipe(recipe, where, known, decay_convention)


def _text_of(source: str | os.PathLike[str] | IO[Any]) -> tuple[str, str]:
    if isinstance(source, str | os.PathLike):
        path = None if source == "-" else Path(source)
        return read_text(path), str(path or "stdin")
    read, where = source.read(), str(getattr(source, "name", "recipe"))
    try:
        return (read.decode() if isinstance(read, bytes) else str(read)), where
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: is not UTF-8 text (byte {error.start})") from error


def _own_patterns(recipe: Recipe) -> tuple[RolePattern, ...]:
    return tuple(
        RolePattern(role, parameters.pattern, parameters.init_std.value, parameters.own)
        for role, values in recipe.roles.items()
        for parameters in values.parameters
    )


def _given_patterns(recipe: Recipe, patterns: Patterns, where: str) -> tuple[RolePattern, ...]:
    if recipe.scope == "global":
        raise InputError(
            f"{where}: the recipe is for all parameters alike (scope: global); leave patterns out"
        )
    for role in patterns:
        if role not in recipe.roles:
            raise InputError(
                f"patterns: the recipe {where} has no role {role}{nearest(role, recipe.roles)}"
            )
    return tuple(
        RolePattern(role, regex, None)
        for role, regexes in patterns.items()
        for regex in ([regexes] if isinstance(regexes, str) else regexes)
    )
