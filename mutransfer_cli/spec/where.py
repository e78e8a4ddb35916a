"""Conditions on rows, such as `optimizer=muonh and depth=4`: parsed here, and never run as code."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.values import as_numbers, number
from mutransfer_cli.strict import nearest

TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>"[^"]*"|'[^']*')|(?P<column>`[^`]*`)|(?P<sign>==|!=|<=|>=|<>|&&|\|\||[=<>()\[\],&|~!])"""
    r"""|(?P<word>[^\s"'`=<>()\[\],&|~!]+))"""
)
Mask = npt.NDArray[np.bool_]
Compare = Callable[[Any, Any], Any]
SIGNS: dict[str, Compare] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
DEEPEST = 50  # nested parentheses


@dataclass(frozen=True)
class Token:
    """A word, sign, `column` or quoted text of a condition."""

    kind: str
    text: str
    position: int
    """Characters from the start, from 1."""


def rows_where(condition: str, cells: pd.DataFrame, names: Mapping[str, str], where: str) -> Mask:
    """Which rows fulfil a condition.

    A condition compares columns with numbers, texts or other columns by = (or ==), !=, <, <=, >,
    >= and `in [a, b]`; and, or, not and parentheses combine comparisons, as in pandas' `query`. A
    word without quotes is a column if there is one of that name, otherwise a text. Names with
    blanks or signs stand in backticks.

    Args:
        names: columns by further names under which they can be addressed.
        where: the table, for messages.

    Raises:
        InputError: the condition cannot be read, names no column, or no row fulfils it.
    """
    parser = _Parser(condition, _tokens(condition), cells, names, where)
    mask = parser.whole()
    if not mask.any():
        held = "; ".join(f"{name} holds {_some(cells[name])}" for name in parser.named)
        raise InputError(f"where: no row of {where} fulfils {condition!r}; {held}", setting="where")
    return mask


def quoted(column: str) -> str:
    """The name of a column as a condition needs it."""
    match = TOKEN.fullmatch(column)
    plain = match is not None and match["word"] is not None
    return column if plain and column not in ("and", "or", "not", "in") else f"`{column}`"


def _some(cells: pd.Series[Any]) -> str:
    values = list(dict.fromkeys(str(cell).strip() for cell in cells.tolist()))
    more = f" and {len(values) - 5} more" if len(values) > 5 else ""
    return ", ".join(values[:5]) + more


def _tokens(condition: str) -> list[Token]:
    tokens, position = list[Token](), 0
    text = condition.rstrip()
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            raise InputError(
                f"where: character {start + 1} of {condition!r}: a quote that is never closed",
                setting="where",
            )
        kind = str(match.lastgroup)
        tokens.append(Token(kind, match[kind], match.start(kind) + 1))
        position = match.end()
    return tokens


class _Parser:
    """Recursive descent over the tokens; every method returns a mask of the rows."""

    def __init__(
        self,
        condition: str,
        tokens: list[Token],
        cells: pd.DataFrame,
        names: Mapping[str, str],
        where: str,
    ) -> None:
        self.condition, self.tokens, self.cells = condition, tokens, cells
        self.names, self.where = names, where
        self.named: list[str] = []
        self.at = self.depth = 0

    def whole(self) -> Mask:
        mask = self.either()
        if self.at < len(self.tokens):
            self.wrong("and, or, or the end")
        return mask

    def either(self) -> Mask:
        mask = self.both()
        while self.accept("or", "|", "||"):
            mask = mask | self.both()
        return mask

    def both(self) -> Mask:
        mask = self.negated()
        while self.accept("and", "&", "&&"):
            mask = mask & self.negated()
        return mask

    def negated(self) -> Mask:
        self.depth += 1
        if self.depth > DEEPEST:
            self.wrong(f"at most {DEEPEST} parentheses and negations within each other")
        if self.accept("not", "!", "~"):
            mask = ~self.negated()
        elif self.accept("("):
            mask = self.either()
            self.expect(")")
        else:
            mask = self.comparison()
        self.depth -= 1
        return mask

    def comparison(self) -> Mask:
        column = self.column()
        negated = self.accept("not")
        if negated or (self.at < len(self.tokens) and self.tokens[self.at].text == "in"):
            self.expect("in")
            mask = self.among(column)
            return ~mask if negated else mask
        sign = self.take("=, !=, <, <=, >, >= or in")
        if sign.kind != "sign" or sign.text not in SIGNS:
            self.at -= 1
            self.wrong("=, !=, <, <=, >, >= or in")
        return self.compared(column, SIGNS[sign.text], self.value())

    def among(self, column: str) -> Mask:
        closing = {"[": "]", "(": ")"}.get(self.take("a list such as [a, b]").text)
        if closing is None:
            self.at -= 1
            self.wrong("a list such as [a, b]")
        mask = self.compared(column, operator.eq, self.value())
        while self.accept(","):
            mask |= self.compared(column, operator.eq, self.value())
        self.expect(closing)
        return mask

    def compared(self, column: str, compare: Compare, value: Token) -> Mask:
        cells = self.cells[column]
        other = self.known(value)
        if other is not None:
            self.named.append(other)
            return _against(cells, compare, self.cells[other])
        text = value.text[1:-1] if value.kind == "quoted" else value.text
        try:
            if value.kind == "quoted":
                raise ValueError
            return np.asarray(compare(as_numbers(cells).to_numpy(), number(text)), dtype=bool)
        except (ValueError, OverflowError):
            if compare not in (operator.eq, operator.ne):
                self.at -= 1
                self.wrong("a number after <, <=, > or >=")
        texts = np.array([str(cell).strip() for cell in cells.tolist()], dtype=object)
        if text.lower() in ("true", "false"):
            texts = np.array([str(one).lower() for one in texts], dtype=object)
            text = text.lower()
        return np.asarray(compare(texts, text), dtype=bool)

    def column(self) -> str:
        token = self.take("a column")
        found = self.known(token)
        if found is None:
            self.at -= 1
            if token.kind not in ("word", "column"):
                self.wrong("a column")
            name = token.text.strip("`")
            raise InputError(
                f"where: character {token.position} of {self.condition!r}: {self.where} has no "
                f"column {name!r}{nearest(name, [str(one) for one in self.cells.columns])}",
                setting="where",
            )
        self.named.append(found)
        return found

    def known(self, token: Token) -> str | None:
        """The column that a token names, if it names one."""
        if token.kind not in ("word", "column"):
            return None
        name = token.text.strip("`")
        found = name if name in self.cells.columns else self.names.get(name)
        if found is None or not isinstance(self.cells[found], pd.Series):
            return None
        return found

    def value(self) -> Token:
        token = self.take("a number, a text or a column")
        if token.kind == "sign":
            self.at -= 1
            self.wrong("a number, a text or a column")
        return token

    def take(self, expected: str) -> Token:
        if self.at == len(self.tokens):
            self.wrong(expected)
        self.at += 1
        return self.tokens[self.at - 1]

    def accept(self, *texts: str) -> bool:
        there = self.at < len(self.tokens) and self.tokens[self.at]
        if not there or there.kind not in ("word", "sign") or there.text.lower() not in texts:
            return False
        self.at += 1
        return True

    def expect(self, text: str) -> None:
        if not self.accept(text):
            self.wrong(text)

    def wrong(self, expected: str) -> NoReturn:
        there = self.tokens[self.at] if self.at < len(self.tokens) else None
        place = f"character {there.position}" if there else "the end"
        found = f", found {there.text!r}" if there else ""
        raise InputError(
            f"where: {place} of {self.condition!r}: expected {expected}{found}", setting="where"
        )


def _against(cells: pd.Series[Any], compare: Compare, others: pd.Series[Any]) -> Mask:
    """One column compared with another: as numbers, or as texts where they are none."""
    left, right = as_numbers(cells), as_numbers(others)
    if left.isna().all() or right.isna().all():
        texts = [cells.map(lambda cell: str(cell).strip()) for cells in (cells, others)]
        return np.asarray(compare(texts[0].to_numpy(), texts[1].to_numpy()), dtype=bool)
    return np.asarray(compare(left.to_numpy(), right.to_numpy()), dtype=bool)
