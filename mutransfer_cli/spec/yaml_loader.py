"""The loader of YAML: every part knows its place, and every fault is told in our own words.

Nothing in a file is ever executed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from mutransfer_cli.located import LocatedList, LocatedMapping, Place

DIRECTIVE = "a line that begins with % is an instruction to YAML; put the text in quotes"
TAG = "a word that begins with ! is a tag, and no tag is read here; put the text in quotes"
ANCHOR = "& or * begins the name of a part that is used twice; put the text in quotes"
ESCAPE = (
    "a backslash in double quotes begins a sign such as \\n; put the text in single quotes, or "
    "write \\\\"
)
BLOCK = "| or > begins a text on the lines below it; put the text in quotes"
QUOTE = "this quote is not closed"
BRACKET = "this [ is not closed, or a comma is missing behind it"
BRACE = "this { is not closed, or a comma is missing behind it"
COLON = (
    "this line has no colon behind its key, or belongs to a text on several lines and is not "
    "indented"
)
HIDDEN = "a character that cannot be shown, such as a zero byte; remove it, or save it as text"
# what the parser says of the text, or of what it was doing, and what that means to people
SYNTAX = {
    "found character '\\t'": "a tab stands where blanks belong; indent with blanks",
    "expected ',' or ']'": BRACKET,
    "expected ',' or '}'": BRACE,
    "found unexpected end of stream": QUOTE,
    "found unexpected document separator": QUOTE,
    "mapping values are not allowed": "no key stands before this colon: a blank is missing after "
    "an earlier colon, the line is indented too far, or the text needs quotes",
    "cannot start any token": "no text begins with this character; put the text in quotes",
    "expected <block end>": "this line is indented unlike those it belongs to, or a bracket is "
    "closed twice",
    "could not find expected ':'": COLON,
    "entries are not allowed": "an item of a list (- ) begins on a line of its own",
    "keys are not allowed": "a ? begins a key on a line of its own; put the text in quotes",
    "expected the node content": "a value is missing before this sign, or a bracket is closed that "
    "was never opened",
    "but found another document": "a second document begins here; write one in each file",
    "expected '<document start>'": "the document has ended above this: a bracket is closed too "
    "early, a line begins with %, or this one is indented less than the first",
    "found undefined alias": "no & above gives this name to a part; put the text in quotes",
    "found duplicate anchor": "a name is given to two parts with &; give each its own",
    "scanning an alias": ANCHOR,
    "scanning an anchor": ANCHOR,
    "escape": ESCAPE,
    "scanning a block scalar": BLOCK,
    "directive": DIRECTIVE,
    "YAML document": DIRECTIVE,
    "tag": TAG,
    "for merging": "<< takes the keys of another mapping, such as *NAME",
    "recursive": "this value holds itself; write it out",
}


class Unquoted(str):
    """A text such as 3e-4 or 2^-9 without quotes: a number to people, text to YAML 1.1.

    It stays text, because only its key decides what it is: a hash may look like a number.
    """


class Refused(yaml.MarkedYAMLError):
    """A fault that this loader finds itself; the problem is a sentence for people."""

    def __init__(self, sentence: str, mark: yaml.Mark) -> None:
        super().__init__(problem=sentence, problem_mark=mark)


def refusal(error: Exception, text: str) -> tuple[Place | None, str]:
    """The place and the meaning of an error of the loader; what is not closed is where it opens."""
    if isinstance(error, Refused):
        return _place(error.problem_mark), f"not YAML: {error.problem}"
    if isinstance(error, RecursionError):
        return None, "not YAML: lists or mappings lie too deep in each other; write fewer levels"
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        place = Place(before.count("\n") + 1, error.position - before.rfind("\n"))
        return place, f"not YAML: {HIDDEN}"
    assert isinstance(error, yaml.MarkedYAMLError)
    said = f"{error.problem}; {error.context}"
    meaning = next((words for part, words in SYNTAX.items() if part in said), None)
    opened = error.context_mark if meaning in (BRACKET, BRACE, QUOTE, COLON) else None
    mark = opened or error.problem_mark
    return _place(mark), f"not YAML: {meaning or 'this has no meaning in YAML; quote the text'}"


class Loader(yaml.SafeLoader):
    """A SafeLoader that refuses a key written twice, and keeps the place of every part."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Make a value; a text that only looks like a date or a number is refused."""
        if not isinstance(node, yaml.ScalarNode):
            return super().construct_object(node, deep)
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:
            kind = "date" if node.tag.endswith(":timestamp") else "number"
            raise Refused(
                f"{node.value} looks like a {kind} and is none; put the text in quotes",
                node.start_mark,
            ) from error

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Read a mapping; a key that is written twice, or is a list or mapping, is refused."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        keys = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise Refused(
                    "a list or mapping stands where a key belongs; a text such as {{name}} needs "
                    "quotes",
                    key.start_mark,
                )
            if key.value in keys:
                raise Refused(f"key {key.value!r} is written twice", key.start_mark)
            keys.add(key.value)
        return node

    def unknown(self, node: yaml.Node) -> Any:
        raise Refused(TAG, node.start_mark)

    def located_mapping(self, node: yaml.MappingNode) -> Iterator[LocatedMapping]:
        found = LocatedMapping()
        found.places = {}
        yield found
        found.update(self.construct_mapping(node))
        # the keys that << takes from another mapping are among those of the node now
        for key, _ in node.value:
            found.places[self.construct_object(key)] = _place(key.start_mark)

    def located_list(self, node: yaml.SequenceNode) -> Iterator[LocatedList]:
        found = LocatedList()
        found.start = _place(node.start_mark)
        found.places = [_place(item.start_mark) for item in node.value]
        yield found
        found.extend(self.construct_sequence(node))


def _place(mark: yaml.Mark | None) -> Place:
    assert mark is not None, "what was parsed from a text has its place"
    return Place(mark.line + 1, mark.column + 1)


_UNQUOTED = "!unquoted"
Loader.add_constructor("tag:yaml.org,2002:map", Loader.located_mapping)
Loader.add_constructor("tag:yaml.org,2002:seq", Loader.located_list)
Loader.add_constructor(None, Loader.unknown)
Loader.add_implicit_resolver(
    _UNQUOTED,
    re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+|\^[+-]?(\d+\.?\d*|\.\d+))$"),
    list("+-.0123456789"),
)
Loader.add_constructor(_UNQUOTED, lambda _, node: Unquoted(node.value))
