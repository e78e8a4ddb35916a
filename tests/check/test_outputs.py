"""Annotations, step summary and JUnit for CI."""

from __future__ import annotations

from xml.etree import ElementTree

from mutransfer_cli.check.measure import CHECK_SCHEMA, Check, gate, measure, unmeasured, worst
from mutransfer_cli.check.outputs import github_annotations, junit, summary, summed_up

OPEN = unmeasured("excess: 5%, of lr", "not bracketed", 0.0, 0.01, "nats")
GATES = (
    gate("exponent", [measure("exponent of lr", 0.01, (-0.05, 0.06), 0.0, 0.1)]),
    gate("transfer", [OPEN]),
    gate("static", [], ["blocks.0.up.weight: is claimed twice | remove a pattern"]),
)
CHECK = Check(
    schema_=CHECK_SCHEMA,
    tool_version="0",
    source="a,b.yaml",
    verdict=worst(one.verdict for one in GATES),
    gates=GATES,
)


def test_annotations_of_what_is_no_pass_with_their_characters_escaped() -> None:
    assert github_annotations(CHECK) == [
        "::warning file=a%2Cb.yaml,title=mutransfer check%3A transfer::"
        "excess: 5%25, of lr could not be measured: not bracketed",
        "::error file=a%2Cb.yaml,title=mutransfer check%3A static::"
        "blocks.0.up.weight: is claimed twice | remove a pattern",
    ]


def test_the_summary_is_a_table_of_all_gates() -> None:
    lines = summary(CHECK).splitlines()
    assert lines[0] == "## mutransfer check: fail"
    assert [line.split(" | ")[:2] for line in lines[6:]] == [
        ["| exponent", "pass"],
        ["| transfer", "inconclusive"],
        ["| static", "fail"],
    ]
    assert r"claimed twice \| remove" in lines[-1]


def test_junit_counts_what_is_open_as_an_error() -> None:
    root = ElementTree.fromstring(junit(CHECK))
    (suite,) = root
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    cases = {case.get("name"): [child.tag for child in case] for case in suite}
    assert cases == {"exponent": [], "transfer": ["error"], "static": ["failure"]}


def test_of_much_that_passes_the_number_is_said() -> None:
    flat = [measure(f"slope {n}", 0.0, (-0.1, 0.1), 0.0, 0.25) for n in range(9)]
    steep = measure("slope of up", 1.0, (0.9, 1.1), 0.0, 0.25)
    assert summed_up(gate("coordinates", [*flat[:8]])) == [one.sentence for one in flat[:8]]
    assert summed_up(gate("coordinates", [*flat, steep])) == [
        steep.sentence,
        "9 quantities lie within their tolerance",
    ]
