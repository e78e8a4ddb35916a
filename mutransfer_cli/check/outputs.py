"""Verdicts for CI: GitHub's annotations and step summary, and JUnit XML."""

from __future__ import annotations

from xml.etree import ElementTree

from mutransfer_cli.check.measure import Check, Gate, Verdict

COMMAND: dict[Verdict, str] = {"fail": "error", "inconclusive": "warning", "pass": "notice"}
SHOWN = 8  # quantities that pass


def sentences(gate: Gate, verdict: Verdict | None = None) -> list[str]:
    """The sentences of a gate with one verdict, or all; findings are failures."""
    measured = [m.sentence for m in gate.measures if verdict in (None, m.verdict)]
    return [*(gate.findings if verdict in (None, "fail") else ()), *measured]


def summed_up(gate: Gate) -> list[str]:
    """All sentences, failures first; passes are only counted where there are many."""
    passed = sentences(gate, "pass")
    if len(passed) > SHOWN:
        passed = [f"{len(passed)} quantities lie within their tolerance"]
    return [*sentences(gate, "fail"), *sentences(gate, "inconclusive"), *passed]


def github_annotations(check: Check) -> list[str]:
    """Workflow commands of GitHub Actions, one for each sentence that does not pass."""
    found = []
    for gate in check.gates:
        for verdict in ("fail", "inconclusive"):
            for sentence in sentences(gate, verdict):
                file, title = _property(check.source), _property(f"mutransfer check: {gate.gate}")
                found.append(f"::{COMMAND[verdict]} file={file},title={title}::{_data(sentence)}")
    return found


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def summary(check: Check) -> str:
    """Markdown for the step summary: the verdict, then a table."""
    lines = [
        f"## mutransfer check: {check.verdict}",
        "",
        f"`{_cell(check.source)}`",
        "",
        "| gate | verdict | what was found |",
        "|---|---|---|",
    ]
    for gate in check.gates:
        text = "<br>".join(_cell(sentence) for sentence in summed_up(gate)) or "nothing to object"
        lines.append(f"| {gate.gate} | {gate.verdict} | {text} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def junit(check: Check) -> str:
    """JUnit XML with one case per gate; inconclusive is an error, since it does not pass."""
    counts = dict.fromkeys(COMMAND, 0)
    suite = ElementTree.Element("testsuite", name="mutransfer check")
    for gate in check.gates:
        counts[gate.verdict] += 1
        case = ElementTree.SubElement(
            suite, "testcase", name=gate.gate, classname=f"mutransfer.{check.source}"
        )
        if gate.verdict != "pass":
            tag = "failure" if gate.verdict == "fail" else "error"
            element = ElementTree.SubElement(case, tag, message=gate.verdict)
            element.text = "\n".join(sentences(gate, gate.verdict))
    suite.set("tests", str(len(check.gates)))
    suite.set("failures", str(counts["fail"]))
    suite.set("errors", str(counts["inconclusive"]))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
