"""Columns of users' tables: which one holds what, by the names that loggers give them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.plan import MULT_AXES
from mutransfer_cli.spec.losses import LOGS, USUAL, Loss, loss_column, train_column
from mutransfer_cli.spec.tables import Table
from mutransfer_cli.spec.values import all_empty, plain, words
from mutransfer_cli.strict import nearest

REQUIRED = ("width", "lr", "loss")
LR_MULTS = tuple(MULT_AXES.values())
SIZE_NAMES = {
    "depth": "depth n_layer n_layers num_layers num_layer num_hidden_layers layers",
    "heads": "heads n_head n_heads num_heads num_attention_heads",
    "head_size": "head_size head_dim d_head",
    "vocab": "vocab vocab_size",
    "context": "context context_length block_size seq_len seq_length sequence_length max_seq_len "
    "n_ctx max_position_embeddings",
    "batch": "batch batch_size global_batch_size train_batch_size total_batch_size bs "
    "per_device_train_batch_size",
    "steps": "steps max_steps max_iters num_steps n_steps total_steps train_steps training_steps "
    "num_train_steps max_train_steps num_iterations total_iters iters",
    "tokens": "tokens n_tokens num_tokens train_tokens total_tokens max_tokens",
    "epochs": "epochs num_epochs max_epochs n_epochs num_train_epochs",
}
SIZES = tuple(SIZE_NAMES)
CANONICAL = (*REQUIRED, "train_loss", "seed", "status", "weight_decay", *LR_MULTS, *SIZES)
OTHER_NAMES = {
    "width": "width hidden_size d_model n_embd embed_dim hidden_dim model_dim",
    "lr": "lr learning_rate peak_lr max_lr peak_learning_rate max_learning_rate",
    "seed": "seed random_seed rng_seed",
    "status": "status state",
    "weight_decay": "weight_decay wd",
} | SIZE_NAMES
MEANING = {word: name for name, some in OTHER_NAMES.items() for word in some.split()}
# what stands before the name of a setting; a value logged during training has another prefix
SETTINGS = words(
    "config cfg params param hparams hyperparameters hyper args model optim optimizer opt trainer "
    "training data dataset user_attrs train_loop_config model_config optimizer_config attributes "
    "settings"
)
POWER_OF = re.compile(r"(?P<base>\d+(?:\.\d+)?|e)\s*(?:\^|\*\*)\s*(?P<sign>-?)\s*(?P<column>.+)")
LOGARITHM = re.compile(
    r"(?:^|_)(?:neg_?)?(?:log_?(?:2|10|e)?|ln)(?:_|$)|^(?:neg_?)?(?:log|ln)(?:2|10)?lr"
)


@dataclass(frozen=True)
class Names:
    """Where a table holds what."""

    columns: dict[str, str]
    """The user's column by canonical name, status included; may be `2^column` for a number."""
    sizes: dict[str, str]
    """Columns of further sizes, by the name under which they are kept."""
    loss: Loss | None
    """How the loss is read; None where there is none to read."""
    found: dict[str, str]
    """The part of `columns` that was recognised by another than the canonical name."""


def parse_columns(text: str) -> dict[str, str]:
    """Parse "width=dim,lr=base_lr" to the user's column by canonical name.

    Raises:
        InputError: an unknown name, an empty part, or a name or column given twice.
    """
    pairs = []
    for part in text.split(","):
        name, column = (word.strip() for word in part.partition("=")[::2])
        if not name or not column:
            raise InputError(
                f"columns: expected NAME=COLUMN between commas, found {part!r}; "
                "write for example width=dim,lr=base_lr",
                setting="columns",
            )
        pairs.append((name, column))
    return named_columns(pairs)


def named_columns(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The user's column by canonical name.

    Raises:
        InputError: an unknown name, or a name or column given twice.
    """
    columns: dict[str, str] = {}
    for name, column in pairs:
        problem = None
        if name not in CANONICAL:
            problem = f"unknown name {name!r}{nearest(name, CANONICAL)}"
        elif name in columns:
            problem = f"{name} is given twice; name one column for it"
        elif column in columns.values():
            problem = f"{column!r} is given twice; a column has one meaning"
        if problem is not None:
            raise InputError(f"columns: {problem}", setting="columns")
        columns[name] = column
    return columns


def parts(column: str) -> list[str]:
    """A name in parts, as `config/learningRate` is config and learning_rate."""
    split = [part for part in re.split(r"[./:]", column.strip()) if part.strip()]
    found = [re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", part) for part in split]
    found = [re.sub(r"[^a-z0-9]+", "_", part.lower()).strip("_") for part in found]
    for prefix in ("params_", "user_attrs_", "hparams_", "config_"):
        if found and found[0].startswith(prefix) and found[0] != prefix:
            found[:1] = [prefix[:-1], found[0].removeprefix(prefix)]
    return found or [""]


def meaning(column: str) -> str | None:
    """The canonical name of a setting by its column, such as depth for `model.n_layer`."""
    *before, last = parts(column)
    logged = before == ["train"] and "/" in column  # a rate logged in training is not the peak
    of_settings = before[:1] == ["config"] or set(before) <= SETTINGS | {"train"}
    if logged or not of_settings:
        return None
    return MEANING.get(last)


def is_logarithm(column: str) -> bool:
    """Whether a name is that of a logarithm, such as neg_log2_lr."""
    return LOGARITHM.search(parts(column)[-1]) is not None


def power_of(text: str, there: Iterable[str]) -> tuple[str, float | None, float]:
    """The column in `2^column` or `2^-column`, its base (None for a column alone) and its sign."""
    match = None if text in there else POWER_OF.fullmatch(text)
    if match is None or match["column"] not in there:
        return text, None, 1.0
    base = 2.718281828459045 if match["base"] == "e" else float(match["base"])
    return match["column"], base, -1.0 if match["sign"] else 1.0


def resolve(
    table: Table,
    columns: Mapping[str, str],
    metric: str | None,
    maximize: bool,
    optima: bool,
    sizes: Sequence[str] = (),
) -> Names:
    """Find the columns of a table.

    What the user names comes first, then equal names, then the usual other names of the same
    thing. A second column of one meaning must hold the same values.

    Args:
        columns: the user's column by canonical name.
        metric: the user's column to take as loss.
        maximize: higher values of the metric are better.
        optima: a row holds the best values at a width, and no loss.
        sizes: further columns that hold sizes.

    Raises:
        InputError: a column that is missing, ambiguous or there twice.
    """
    there = [str(column) for column in table.cells.columns]
    for named in sizes:
        if named not in there:
            raise InputError(
                f"{table.where}: has no column {named!r} for a size{nearest(named, there)}",
                setting="size",
            )
    wanted = dict(columns)
    if metric is not None and wanted.setdefault("loss", metric) != metric:
        raise InputError(
            f"columns loss={wanted['loss']} and metric {metric}: name one column for the loss",
            setting="columns",
        )
    found = _recognised(table, there, wanted, sizes)
    settings = wanted | {k: v for k, v in found.items() if k not in wanted}
    for name in REQUIRED[: 1 if optima else 2]:
        settings.setdefault(name, name)
    settings = {k: v for k, v in settings.items() if k not in ("loss", "train_loss")}
    _refuse_absent(table, settings, there)
    loss = None
    if optima:
        wanted.pop("loss", None)
        wanted.pop("train_loss", None)
    else:
        if "loss" not in wanted and table.result is not None:
            wanted["loss"], maximize = table.result, maximize or table.maximize
        loss = loss_column(table, wanted.get("loss"), maximize, metric is not None)
        train = None if maximize else train_column(table, loss.column, wanted.get("train_loss"))
        if "loss" not in wanted and loss.said is None and loss.column not in USUAL:
            found["loss"] = loss.column
        wanted["loss"] = loss.column
        wanted |= {} if train is None else {"train_loss": train}
    wanted = {**{k: v for k, v in found.items() if k not in wanted}, **wanted}
    for name in ("width",) if optima else REQUIRED:
        wanted.setdefault(name, name)
    names = {name: wanted[name] for name in CANONICAL if name in wanted}
    _refuse_absent(table, names, there)
    used = {power_of(column, there)[0] for column in names.values()}
    further = {one: one for one in dict.fromkeys([*sizes, *there]) if one not in used}
    further = {one: one for one in further if one in sizes or meaning(one) in SIZES}
    other = {k: v for k, v in found.items() if names.get(k) == v and v != k}
    return Names(names, further, loss, other)


def _recognised(
    table: Table, there: Sequence[str], wanted: Mapping[str, str], sizes: Sequence[str]
) -> dict[str, str]:
    """The columns that nobody named, by canonical name."""
    candidates: dict[str, list[str]] = {}
    taken = {power_of(column, there)[0] for column in wanted.values()} | set(sizes)
    for column in there:
        name = column if column in (*LR_MULTS, *OTHER_NAMES) else meaning(column)
        if name is not None and name not in wanted and column not in taken:
            candidates.setdefault(name, []).append(column)
    found = {}
    for name, some in candidates.items():
        held = [c for c in dict.fromkeys(some) if c == name or not all_empty(table, c)]
        if not held:
            continue
        first = name if name in held else held[0]
        if name not in SIZES:  # further sizes are kept beside the first
            _refuse_another(table, name, first, held)
        found[name] = first
    return found


def _refuse_another(table: Table, name: str, first: str, held: Sequence[str]) -> None:
    for other in held:
        if other == first:
            continue
        if there_twice(table, first) or there_twice(table, other):
            continue
        one, two = plain(table.cells[first]), plain(table.cells[other])
        differ = (one != two).to_numpy() & ~(one.isna() & two.isna()).to_numpy()
        if differ.any():
            place = int(differ.argmax())
            raise InputError(
                f"{table.place(place)}: {name} could be {first!r} ({one.tolist()[place]}) or "
                f"{other!r} ({two.tolist()[place]}); name the column to take by {name}=COLUMN",
                remedy=f"columns {name}={first}",
            )


def there_twice(table: Table, column: str) -> bool:
    """Whether a table has two columns of a name."""
    return [str(one) for one in table.cells.columns].count(column) > 1


def _refuse_absent(table: Table, names: Mapping[str, str], there: Sequence[str]) -> None:
    for name, text in names.items():
        column, base, _ = power_of(text, there)
        if there.count(column) > 1:
            raise InputError(f"{table.where}: has the column {column!r} twice; rename one of them")
        if column in there:
            if base is not None and name in ("seed", "status", "train_loss", "loss", *SIZES):
                raise InputError(f"columns: {name}={text}: is for numbers such as lr=2^log2_lr")
            continue
        meant = "" if text == name else f" for {name}"
        logs = [one for one in there if is_logarithm(one) and parts(one)[-1].endswith(LOGS)]
        hint = ""
        if name == "lr" and logs:
            hint = f" (a logarithm by {name}=2^{logs[0]}, or 10^ or e^ for another base)"
        raise InputError(
            f"{table.where}: has no column {text!r}{meant}; name yours by {name}=COLUMN{hint}"
            f"{nearest(text, there)}",
            remedy="columns",
        )
