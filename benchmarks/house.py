"""Size and shape of the package: files, lines, imports, repeated names, docstrings, comments.

python -m benchmarks.house [CHECKOUT]
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "mutransfer_cli"


def public_definitions(tree: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef]:
    """Classes, functions and methods whose names do not begin with an underscore."""
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    for node in (node for body in bodies for node in body):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield node


def import_lines(tree: ast.Module) -> int:
    """Lines of all import statements, those inside functions too."""
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))
    return sum((node.end_lineno or node.lineno) - node.lineno + 1 for node in imports)


def comment_lines(text: str) -> int:
    """Lines that hold a comment, alone or after code."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(token.type == tokenize.COMMENT for token in tokens)


def share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.1%})"


def figures(root: Path) -> dict[str, str]:
    """Name and value of every figure of a checkout."""
    texts = {path: path.read_text() for path in sorted((root / PACKAGE).rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    names = Counter(path.name for path in texts if not path.name.startswith("__"))
    repeated = sorted(name for name, count in names.items() if count > 1)
    public = [node for tree in trees.values() for node in public_definitions(tree)]
    fit = [text for path, text in texts.items() if path.parent.name == "fit"]
    filled = sum(bool(line.strip()) for text in fit for line in text.splitlines())
    return {
        "files": str(len(texts)),
        "lines": f"{sum(len(text.splitlines()) for text in texts.values()):,}",
        "lines of imports": f"{sum(map(import_lines, trees.values())):,}",
        "file names that occur twice or more": f"{len(repeated)} ({', '.join(repeated)})",
        "public definitions with a docstring": share(
            sum(ast.get_docstring(node) is not None for node in public), len(public)
        ),
        "lines in fit/ with a comment": share(sum(map(comment_lines, fit)), filled),
        "lines of README.md": str(len((root / "README.md").read_text().splitlines())),
        "largest file": str(max(len(text.splitlines()) for text in texts.values())),
    }


if __name__ == "__main__":
    for name, value in figures(Path(sys.argv[1] if len(sys.argv) > 1 else ".")).items():
        print(f"{name}: {value}")
