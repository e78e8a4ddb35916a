"""A framework's own Llama: the recipe by kind of parameter, which each format names in its way."""

from __future__ import annotations

import math

from mutransfer_cli.errors import NotExpressible
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.formats.sheet import STOCK_KINDS, GroupValues, Sheet, StockKind
from mutransfer_cli.recipe.inits import base_inits, kind_of
from mutransfer_cli.recipe.roles import name_pattern
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.rules.plan import BaseParameter, TargetModel

# one block of transformers' Llama
LLAMA: dict[str, StockKind] = {
    "model.embed_tokens.weight": "embedding",
    "model.layers.0.input_layernorm.weight": "vector",
    "model.layers.0.self_attn.q_proj.weight": "query",
    "model.layers.0.self_attn.k_proj.weight": "hidden",
    "model.layers.0.self_attn.v_proj.weight": "hidden",
    "model.layers.0.self_attn.o_proj.weight": "hidden",
    "model.layers.0.post_attention_layernorm.weight": "vector",
    "model.layers.0.mlp.gate_proj.weight": "hidden",
    "model.layers.0.mlp.up_proj.weight": "hidden",
    "model.layers.0.mlp.down_proj.weight": "down",
    "model.norm.weight": "vector",
    "lm_head.weight": "readout",
}
KINDS = {name_pattern(name): kind for name, kind in LLAMA.items()}
ROLES: dict[StockKind, Role] = {
    "embedding": "embedding",
    "vector": "vector",
    "readout": "readout",
    "query": "hidden",
    "down": "hidden",
    "hidden": "hidden",
}
INNER = 4  # any ratio of inner size to width will do: `init_fan_in` corrects it


def stock_llama(base_width: int, width: int) -> TargetModel:
    """A Llama whose sizes are proportional to width."""
    base_plan, shapes = [], {}
    for name, kind in LLAMA.items():
        small, large = _shape(kind, base_width), _shape(kind, width)
        growing = tuple(axis for axis, size in enumerate(large) if size != small[axis])
        axis = {"vector": None, "embedding": 0}.get(kind, 1)
        mean = 1.0 if kind == "vector" else 0.0
        base_plan.append(BaseParameter(name, ROLES[kind], small, growing, 0.0, mean, axis))
        shapes[name] = large
    queries = frozenset(name for name, kind in LLAMA.items() if kind == "query")
    return TargetModel(width, tuple(base_plan), shapes, is_llama=True, queries=queries)


def _shape(kind: StockKind, width: int) -> tuple[int, ...]:
    shapes = {
        "embedding": (1, width),
        "vector": (width,),
        "readout": (1, width),
        "down": (width, INNER * width),
    }
    return shapes.get(kind, (width, width))


def stock_sheet(
    recipe: Recipe, exponents: Exponents, model: TargetModel, name: str, knows_init: bool
) -> Sheet:
    """The sheet of a recipe for a Llama by kind; `query` and `down` only where they differ from
    other hidden matrices.

    Args:
        recipe: with the names of `model`.
        model: Hugging Face's Llama.
        name: that of the format.
        knows_init: whether the init stds of the recipe are known.

    Raises:
        NotExpressible: parameters that a framework's own Llama lacks, or values that only some
            blocks or matrices have.
    """
    shapes = {name_pattern(name): shape for name, shape in model.shapes.items()}
    base_plan = {name_pattern(p.name): p for p in model.base_plan}
    laws, found = base_inits(exponents), dict[StockKind, GroupValues]()
    for role, of_role in recipe.roles.items():
        for pattern in of_role.parameters:
            kind = KINDS.get(pattern.pattern)
            if kind is None:
                raise NotExpressible(
                    f"to {name}: its own Llama has no {pattern.pattern}; write transformers or "
                    "pytorch, which hold any names",
                    setting="to",
                )
            values, fan_in = vars(of_role.values(pattern)), None
            if ROLES[kind] == "hidden":
                base = base_plan[pattern.pattern]
                law = laws.get(kind_of(base)) or laws.get("hidden")
                fan_in = shapes[pattern.pattern][1] if law and law.fan_in else None
            if not knows_init and kind != "vector":
                values["init_std"] = None
            group = GroupValues(role=role, init_fan_in=fan_in, **values)
            if not _same(found.setdefault(kind, group), group):
                raise NotExpressible(
                    f"to {name}: {pattern.pattern} has values of its own, and there all {kind} "
                    "matrices have the same; write transformers or pytorch",
                    setting="to",
                )
    for part in ("query", "down"):
        if _same(found[part], found["hidden"]):
            del found[part]
    kinds: dict[str, GroupValues] = {kind: found[kind] for kind in STOCK_KINDS if kind in found}
    return Sheet(recipe, kinds, swept=frozenset(p.name for p in exponents.base_plan))


def _same(one: GroupValues, other: GroupValues) -> bool:
    """Whether two kinds of matrices have the same values, stds by fan-in included."""
    pairs = [(getattr(one, key), getattr(other, key)) for key in ("lr", "weight_decay", "eps")]
    pairs.append((_law(one), _law(other)))
    return all(x == y or (x and y and math.isclose(x, y, rel_tol=1e-9)) for x, y in pairs)


def _law(values: GroupValues) -> float | None:
    if values.init_std is None:
        return None
    return values.init_std * math.sqrt(values.init_fan_in or 1)
