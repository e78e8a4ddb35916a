"""YAML as people write it, and every fault of it in our own words, with its place."""

from __future__ import annotations

import ast
import inspect
import re

import pytest
import yaml

from mutransfer_cli.errors import InputError
from mutransfer_cli.located import place_of
from mutransfer_cli.spec.yaml_io import load_yaml
from mutransfer_cli.spec.yaml_loader import SYNTAX, Unquoted

THEIRS = re.compile(
    r"but found|but got|<\w+ \w+>|constructor|token|scalar|codec|expected|unacceptable|construct|"
    r"while |invalid literal|convert|quote the text$"
)
# never raised by a loader of plain data: Python's own objects, and methods of other loaders
NOT_OURS = re.compile(
    r"^(cannot find|module |blacklisted|expected (a class|'' or))|found duplicate key"
)


def test_only_unquoted_powers_are_marked_as_possible_numbers() -> None:
    found = load_yaml("[2^-9, 3e-4, '3e-4', 1.5, 2 ^ 3]", "x")
    assert found == ["2^-9", "3e-4", "3e-4", 1.5, "2 ^ 3"]
    assert [isinstance(value, Unquoted) for value in found] == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (" \n", "x: is empty; nothing reached it"),
        ("b: [1\nc: 2\n", "x line 1, column 4: not YAML: this [ is not closed, or a comma is"),
        ("a: {b: 1\nc: 2\n", "x line 1, column 4: not YAML: this { is not closed"),
        ("a:\n\tb: 1\n", "x line 2, column 1: not YAML: a tab stands where blanks belong; indent"),
        ("a: 'b\nc: 2\n", "x line 1, column 4: not YAML: this quote is not closed"),
        ("a: 'b\n---\n", "x line 1, column 4: not YAML: this quote is not closed"),
        ("a:1\nb: 2\n", "x line 2, column 2: not YAML: no key stands before this colon: a blank"),
        ("a: 1\n  b: 2\n", "x line 2, column 4: not YAML: no key stands before this colon"),
        ("a: @b\n", "x line 1, column 4: not YAML: no text begins with this character; put the"),
        ("a: [1]]\n", "x line 1, column 7: not YAML: this line is indented unlike those it"),
        ("a: ]\n", "x line 1, column 4: not YAML: a value is missing before this sign, or a"),
        ("a\nb: 1\n", "x line 2, column 2: not YAML: no key stands before this colon"),
        ("? a\nb\n", "x line 2, column 1: not YAML: this line has no colon behind its key, or"),
        ("a: - b\n", "x line 1, column 4: not YAML: an item of a list (- ) begins on a line of"),
        ("a: ? b\n", "x line 1, column 4: not YAML: a ? begins a key on a line of its own; put"),
        ("a: 1\n---\nb: 2\n", "x line 2, column 1: not YAML: a second document begins here; write"),
        ("[1]\nb: 2\n", "x line 2, column 1: not YAML: the document has ended above this: a"),
        ("%a\nb: 1\n", "x line 2, column 1: not YAML: the document has ended above this: a"),
        ("%YAML x\n", "x line 1, column 7: not YAML: a line that begins with % is an instruction"),
        ("a: *b\n", "x line 1, column 4: not YAML: no & above gives this name to a part; put"),
        ("a: **\n", "x line 1, column 5: not YAML: & or * begins the name of a part that is used"),
        ("[&a 1, &a 2]\n", "x line 1, column 8: not YAML: a name is given to two parts with &"),
        ("a: !b c\n", "x line 1, column 4: not YAML: a word that begins with ! is a tag, and no"),
        ("a: !b!c d\n", "x line 1, column 4: not YAML: a word that begins with ! is a tag"),
        ("a: !!python/object:os.system {}", "x line 1, column 4: not YAML: a word that begins"),
        ('a: "\\d"\n', "x line 1, column 6: not YAML: a backslash in double quotes begins a sign"),
        ("a: |x\n", "x line 1, column 5: not YAML: | or > begins a text on the lines below it"),
        ("<<: 3\n", "x line 1, column 5: not YAML: << takes the keys of another mapping, such as"),
        ("a: 1\nb\0: 2\n", "x line 2, column 2: not YAML: a character that cannot be shown, such"),
        ("a: 2001-99-99\n", "x line 1, column 4: not YAML: 2001-99-99 looks like a date and is"),
        ("a: 089\nb: 0b_\n", "x line 2, column 4: not YAML: 0b_ looks like a number and is none"),
        ("a: 1\nb: {c: 1, c: 2}\n", "x line 2, column 11: not YAML: key 'c' is written twice"),
        (
            "a: {{b}}\n",
            "x line 1, column 5: not YAML: a list or mapping stands where a key",
        ),
        ("? [a]\n: 1\n", "x line 1, column 3: not YAML: a list or mapping stands where a key"),
        (
            "[" * 500,
            "x: not YAML: lists or mappings lie too deep in each other; write fewer levels",
        ),
    ],
)
def test_what_is_not_yaml_is_named_with_its_place(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as found:
        load_yaml(text, "x")
    assert str(found.value).startswith(sentence)
    assert not THEIRS.search(str(found.value))


def test_every_problem_that_the_parser_knows_has_our_words() -> None:
    modules = (yaml.scanner, yaml.parser, yaml.composer)
    raised = [
        " ".join(
            part.value
            for argument in node.exc.args
            for part in ast.walk(argument)
            if isinstance(part, ast.Constant) and isinstance(part.value, str)
        )
        for module in modules
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
    ]
    # one function scans aliases and anchors, another tags and the handles of directives
    named = [said.replace("an %s", "an alias").replace("a %s", "a tag") for said in raised]
    assert len(named) > 40
    assert [said for said in named if not any(part in said for part in SYNTAX)] == []


def refusal_of(text: str) -> str:
    try:
        load_yaml(text, "x")
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("sign", list("[]{},:?-&*!|>'\"%@`#\t\0<\\~"))
def test_no_word_of_the_parser_reaches_users(sign: str) -> None:
    text = "a: {b: [1, 2^-9], c: 'd'}\ne:\n- f: 3\n  g: x y\n- h\n"
    starts = [text[:place] + sign for place in range(len(text))]
    found = [refusal_of(start + text[len(start) - by :]) for start in starts for by in (0, 1)]
    refused = [sentence for sentence in found if sentence]
    assert refused
    for sentence in refused:
        assert re.match(r"x line \d+, column \d+: not YAML: ", sentence)
        assert not THEIRS.search(sentence), sentence


def test_keys_that_are_numbers_or_taken_from_another_mapping_have_places() -> None:
    data = load_yaml("a: &a {b: 1}\nc:\n  <<: *a\n  64: {d: 2}\n", "x")
    assert data["c"] == {"b": 1, 64: {"d": 2}}
    assert place_of(data, ["c", "b"]) == (1, 8)
    assert place_of(data, ["c", 64, "d"]) == (4, 8)


def test_a_mapping_may_replace_keys_that_it_takes_from_another() -> None:
    text = "a: {b: {c: &c {<<: &d {e: 1, f: 1}, e: 2}}}\ng: {<<: *c, f: 3}\n"
    assert load_yaml(text, "x")["g"] == {"e": 2, "f": 3}
