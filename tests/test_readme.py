"""The README and the pages of the documentation are true."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import typer
import yaml

import mutransfer_cli
from mutransfer_cli import __version__, load_recipe
from mutransfer_cli.cli.app import app
from mutransfer_cli.cli.docs import COMMANDS, TOPICS
from mutransfer_cli.recipe.formats import FORMATS, PLAIN
from mutransfer_cli.spec.model import FactorySpec
from mutransfer_cli.spec.protocol import DeclaredProtocol
from mutransfer_cli.spec.sources import load_spec
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.spec.yaml_io import dump, load_yaml
from mutransfer_cli.strict import validated
from mutransfer_cli.sweep.prepare import Sweep
from tests.conftest import invoke
from tests.readme_field import forget, lay_out
from tests.recipe.test_build import exponents, recipe_of

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "mutransfer_cli" / "docs"
README = ROOT / "README.md"
PAGES = {topic: FOLDER / f"{topic}.md" for topic in TOPICS if topic != COMMANDS}
DOCUMENTS = [README, *PAGES.values()]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
SHOWN_RULE = "--parameterization mup --optimizer adamw --alignment full"
SHOWN = {
    "quickstart": (README, "Two commands"),
    "quickstart-standard": (PAGES["fit"], "An example"),
    "hf-llama-tiny": (PAGES["models"], "A Hugging Face config"),
}
EXPONENT = re.compile(r"exponent of lr: (\S+)  95% interval (\S+) to (\S+)")

# lines that take seconds, need another machine, or differ from a line that runs only by an option
# that other tests cover: their options are parsed
EXPENSIVE = re.compile(
    r"sweep-proxy (quickstart|hf-llama-tiny|lingle|own_models)|--device cuda|--engine ray"
    r"|mutransfer doctor|mutransfer init (-o|--model|--hf)"
    r"|check my-sweep|--spec |mutransfer report"
    r"|sweep-proxy my-sweep.yaml (-o|>|--workers|--checkpoint-every)"
)

SCHEDULES = ["cosine", "wsd"]
Run = Callable[..., Any]


def block(path: Path, heading: str, language: str, index: int = 0) -> str:
    """Return a fenced block of the section whose heading begins as given."""
    sections = re.split(r"^#+ ", path.read_text(), flags=re.MULTILINE)
    (section,) = (found for found in sections if found.startswith(heading))
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    return found[index]


def yaml_of(topic: str, heading: str) -> Any:
    """Return the first YAML block of a section of a page."""
    return load_yaml(block(PAGES[topic], heading, "yaml"), topic)


def shell_lines() -> list[str]:
    return [
        line
        for path in DOCUMENTS
        for shown in re.findall(r"^```sh\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
        for line in shown.replace("\\\n", "").splitlines()
        if line.strip()
    ]


def commands_of(line: str) -> list[list[str]]:
    """Return the arguments of each `mutransfer` in a pipe."""
    words = shlex.split(line, comments=True)
    joined = " ".join("|" if word == "|" else shlex.quote(word) for word in words)
    parts = (shlex.split(part) for part in joined.split(" | "))
    return [part[1:] for part in parts if part[0] == "mutransfer"]


def mentioned() -> list[str]:
    """Commands in prose, batch scripts and other tools' files, with N in place of numbers."""
    text = "".join(path.read_text() for path in DOCUMENTS)
    inline = re.findall(r"`(mutransfer [a-z-]+ (?!\.\.\.)[^`]+)`", text)
    nested = re.findall(r"^  +(mutransfer .*)$", text, re.MULTILINE)
    assert inline
    assert nested
    return sorted({re.sub(r"\bN\b", "64", " ".join(line.split())) for line in inline + nested})


LINES = sorted({line.partition("  #")[0].strip() for line in shell_lines()} - {""})
OURS = [line for line in LINES if commands_of(line)]
CHEAP = [line for line in OURS if not EXPENSIVE.search(line)]


def test_the_readme_can_be_read_at_one_sitting() -> None:
    assert len(README.read_text().splitlines()) <= 200


@pytest.mark.parametrize("line", [*OURS, *mentioned()])
def test_every_command_shown_is_understood(line: str) -> None:
    group: Any = typer.main.get_command(app)
    for name, *args in commands_of(line):
        plain = args[: args.index(">")] if ">" in args else args
        group.get_command(None, name).make_context(name, plain)


def test_every_command_and_option_is_documented(run: Run) -> None:
    text = "".join(path.read_text() for path in DOCUMENTS)
    group: Any = typer.main.get_command(app)
    for command in group.list_commands(None):
        assert f"mutransfer {command}" in text
        for option in set(re.findall(r"--[a-z][\w-]*", run(command, "--help").stdout)):
            if option not in ("--help", "--output", "--version"):
                assert option in text, (command, option)


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("field")
    lay_out(folder, protocol=block(PAGES["results"], "A protocol", "yaml"))
    return folder


@pytest.mark.parametrize("line", CHEAP)
def test_every_cheap_line_runs(
    line: str, field: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "field"
    shutil.copytree(field, here)
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(here)
    passed = ""
    try:
        for name, *args in commands_of(line):
            plain = args[: args.index(">")] if ">" in args else args
            result = invoke(name, *plain, stdin=passed)
            passed = result.stdout
            verdicts = {0, 3, 4} if name == "check" else {0}
            assert result.exit_code in verdicts, result.stderr
    finally:
        forget()


def test_the_formats_shown_are_those_there_are() -> None:
    table = PAGES["transfer"].read_text().split("\n| `--to` |")[1].split("\n\n")[0]
    rows = table.splitlines()[2:]
    shown = re.findall(r"`([\w-]+)`", "".join(line.split("|")[1] for line in rows))
    assert shown == [*PLAIN, *FORMATS]


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {match for line in shell_lines() for match in re.findall(r"make (\w+)", line)}
    assert targets == {"quickstart", "test"}
    for target in targets | {
        "bench",
        "bench-fit",
        "experiments",
        "test-browser",
        "test-trainers",
        "test-sources",
    }:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_spec_shown_is_the_quickstart() -> None:
    shown = validated(SweepSpec, yaml_of("spec", "A whole spec"), "shown")
    assert shown == load_spec("quickstart")[0]


def test_the_spec_of_an_own_model_shown_is_read() -> None:
    written = load_yaml(block(README, "Your own model", "yaml"), "README")
    shown = validated(SweepSpec, written, "README")
    assert isinstance(shown.model, FactorySpec)
    assert shown.sweep.size == 4 * 8 * 2


def test_the_data_shown_are_read() -> None:
    shown = re.findall(r"`(\{source: .*?\})`", PAGES["data"].read_text())
    assert len(shown) == 5
    spec = yaml_of("spec", "A whole spec")
    for written in shown:
        data = load_yaml(written.replace("...", "my-data"), "shown")
        of_samples = {"model": {"family": "mlp"}, "train": spec["train"] | {"context": 1}}
        model = of_samples if data["source"] == "linear_teacher" else {}
        read = validated(SweepSpec, spec | model | {"data": data}, "shown")
        assert read.data.model_dump()["source"] == data["source"]


def test_the_own_model_shown_is_read(tiny: dict[str, Any]) -> None:
    shown = validated(
        SweepSpec,
        tiny | yaml_of("models", "Your own model"),
        "shown",
    )
    assert isinstance(shown.model, FactorySpec)
    assert set(shown.model.roles.values()) == {"embedding", "hidden"}


def test_the_protocol_shown_is_read() -> None:
    shown = yaml_of("results", "A protocol")
    assert validated(DeclaredProtocol, shown, "shown").given_convention == "independent"


def test_the_notebook_shown_runs(
    tiny_mlp: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    tiny_mlp["train"] |= {"steps": 100}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(tiny_mlp))
    shown: dict[str, Any] = {}
    exec(block(PAGES["python"], "In a notebook", "python"), shown)
    assert len(shown["run"].trials) == 21
    assert shown["best"].low < shown["best"].value < shown["best"].high
    assert load_recipe("recipe.yaml").recipe == shown["recipe"]


def test_the_frame_shown_is_fitted(capsys: pytest.CaptureFixture[str]) -> None:
    widths, rates = (64, 128, 256, 512), [2.0**x for x in range(-9, -2)]
    runs = [{"dim": w, "lr": lr, "schedule": s} for w in widths for lr in rates for s in SCHEDULES]
    frame = pd.DataFrame([*runs, {"lr": 0.1, "schedule": "wsd"}])
    frame["loss"] = 3 + (np.log2(frame["lr"]) + 6) ** 2
    shown: dict[str, Any] = {"mt": mutransfer_cli, "frame": frame}
    exec(block(PAGES["python"], "In a notebook", "python", index=1), shown)
    assert [*shown["fit"].exponents.groups] == SCHEDULES
    assert "1 row left out: 1 without width" in capsys.readouterr().out


def test_the_trainer_shown_runs(
    tiny: dict[str, Any],
    prepare: Callable[[dict[str, Any]], Sweep],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tiny["model"]["attention_scale"] = "1/sqrt(d_head)"
    sweep = prepare(tiny)
    (tmp_path / "recipe.yaml").write_text(dump(recipe_of(exponents(sweep), 64, folded=True)))
    monkeypatch.chdir(tmp_path)
    shown: dict[str, Any] = {"model": sweep.model(64)}
    exec(block(PAGES["python"], "A recipe", "python"), shown)
    held = {group["name"]: group["initial_lr"] for group in shown["optimizer"].param_groups}
    planned = {target.role: target.lr for target in shown["recipe"].plan(shown["model"])}
    assert held == planned


def test_the_picture_holds_every_width_of_the_quickstart() -> None:
    shown = re.findall(r"<text[^>]*>(\d+)</text>", (ROOT / ".github" / "bowls.svg").read_text())
    assert shown == [str(width) for width in load_spec("quickstart")[0].sweep.widths]


def test_the_exponents_shown_are_those_of_the_first_command(run: Run) -> None:
    (command,) = (line for line in LINES if line.endswith("rules " + SHOWN_RULE))
    printed = [line.split() for line in run(*shlex.split(command)[1:]).stdout.splitlines()]
    for line in block(PAGES["rules"], "Rules", "text").splitlines():
        assert line.split() in printed


@pytest.mark.parametrize("path", [*DOCUMENTS, CONTRIBUTING, ROOT / "SECURITY.md"])
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target
    for topic in re.findall(r"mutransfer docs (\w+)", path.read_text()):
        assert topic in TOPICS


def test_the_files_named_for_contributors_exist() -> None:
    named = re.findall(
        r"`((?:mutransfer_cli|recipes|benchmarks)/[\w/]+\.\w+)`", CONTRIBUTING.read_text()
    )
    assert len(named) > 20
    for name in named:
        assert (ROOT / name).exists(), name


PLACEHOLDER = re.compile(r"\b(OWNER|REF|YOURNAME|your-org|<org>|<owner>|example\.com)\b")


def test_no_placeholder_is_left() -> None:
    """No address that nobody has: every line can be copied as it is."""
    folders = (".github", "mutransfer_cli", "recipes", "benchmarks")
    paths = [path for path in ROOT.iterdir() if path.is_file()]
    paths += [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    texts = {".md", ".toml", ".yaml", ".yml", ".cff", ".py", ".j2", ""}
    read = [path for path in paths if path.suffix in texts]
    assert len(read) > 200
    for path in read:
        assert not PLACEHOLDER.search(path.read_text()), path


def test_the_hook_shown_is_the_one_there_is() -> None:
    (repository,) = yaml_of("check", "With pre-commit")["repos"]
    (shown,), (hook,) = (
        repository["hooks"],
        load_yaml((ROOT / ".pre-commit-hooks.yaml").read_text(), "hooks"),
    )
    assert repository["repo"] == "local"
    assert shown == {key: hook[key] for key in shown}
    assert shown.keys() == hook.keys() - {"description"}


def test_the_action_shown_is_the_one_there_is() -> None:
    steps = [step["uses"] for step in yaml_of("check", "On GitHub")]
    inner = steps[-1].removeprefix("./third_party/mutransfer/")
    assert inner != steps[-1]
    assert (ROOT / inner / "action.yml").exists()


def test_the_citation_is_that_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["cff-version"], citation["version"]) == ("1.2.0", __version__)
    assert {"message", "title", "authors"} <= citation.keys()
    released = f"## [{__version__}] - {citation['date-released']}"
    assert released in (ROOT / "CHANGELOG.md").read_text()
    papers = {paper["identifiers"][0]["value"] for paper in citation["references"]}
    assert papers == {"arXiv:2407.05872", "arXiv:2510.15262", "arXiv:2404.05728"}
    for paper in citation["references"]:
        assert {"type", "title", "authors"} <= paper.keys()


def test_continuous_integration_runs_the_tests() -> None:
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yaml").read_text())["jobs"]["test"]
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make test"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.13"]


def bowls_shown(name: str) -> str:
    """The shown output of `fit-exponents` on a shipped spec."""
    path, heading = SHOWN[name]
    return block(path, heading, "text")


def words(output: str) -> list[str]:
    """The words of an output without numbers and warnings, which differ between machines."""
    said = output[max(0, output.find("exponent of lr")) :]  # the verdict before it may differ
    before = re.split(r"^(?:warning|next|eval loss|\.\.\.)", said, flags=re.MULTILINE)[0]
    return [
        word
        for word in before.split()
        if re.search("[A-Za-z]", word) and not re.search(r"\d", word)
    ]


def check_quickstart(
    run: Run, folder: Path, name: str, expected: float, within: float, wide: float = 0.6
) -> None:
    """Run a quickstart and compare it with its promise and with its shown output."""
    assert run("sweep-proxy", name, "-o", folder).exit_code == 0
    fitted = run("fit-exponents", folder)
    assert fitted.exit_code == 0, fitted.stderr
    value, low, high = (float(x) for x in EXPONENT.findall(fitted.stderr)[0])
    assert abs(value - expected) <= within
    assert low < value < high
    assert high - low <= wide
    shown, _, _ = (float(x) for x in EXPONENT.findall(bowls_shown(name))[0])
    assert abs(value - shown) <= 0.15
    assert words(fitted.stderr) == words(bowls_shown(name))
    table = bowls_shown(name).partition("optimal lr by width")[2].split("\n\n")[0].splitlines()[2:]
    bowls = [line.split()[0] for line in table if line.strip()]
    assert bowls == [str(width) for width in load_spec(name)[0].sweep.widths]


@pytest.mark.slow
def test_mup_transfers_on_real_text(run: Run, tmp_path: Path) -> None:
    check_quickstart(run, tmp_path, "quickstart", expected=0.0, within=0.15)
    recipe = run("transfer", "--width", 4096, stdin=run("fit-exponents", tmp_path).stdout)
    assert recipe.exit_code == 0
    warning = "warning: width 4096 is 21.3x the largest fitted width 192"
    assert warning in recipe.stderr
    shown = block(README, "Two commands", "text", index=1)
    assert warning in shown
    assert words(recipe.stderr) == words(shown)


@pytest.mark.slow
def test_a_global_rate_falls_as_one_over_width(run: Run, tmp_path: Path) -> None:
    check_quickstart(run, tmp_path, "quickstart-standard", expected=-1.0, within=0.25)


@pytest.mark.slow
def test_a_llama_transfers_under_mup(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    check_quickstart(run, tmp_path, "hf-llama-tiny", expected=0.0, within=0.25, wide=1.2)
