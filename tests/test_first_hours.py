"""Three first hours with the tool, from the first command to a number that can be trusted.

A person with a small GPT of her own, one with a table of runs and a large target, and a CI job.
Each types what the tool told to type; exit codes and the sentences that matter are checked.
"""

from __future__ import annotations

import csv
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
MODEL = """
from nano_gpt import GPT, Config


def build(width, vocab, context):
    return GPT(Config(n_embd=width, vocab_size=vocab, block_size=context))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model in files of its own."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "tests" / "proxies" / "nano_gpt.py", tmp_path)
    (tmp_path / "my_gpt.py").write_text(MODEL)
    return tmp_path


def typed(line: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
    """Type a line without a terminal, as in a job or an editor's console."""
    command = [sys.executable, "-m", "mutransfer_cli", *shlex.split(line)[1:]]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == exit_code, f"{line}: {done.returncode}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def told(stderr: str) -> str:
    """The command that the last lines tell to type next."""
    *_, last = re.finditer(r"mutransfer [a-z].*", stderr)
    return last[0].strip()


def test_an_hour_with_an_own_model(folder: Path) -> None:
    begun = typed("mutransfer init --model my_gpt.py:build -o gpt.yaml")
    assert "gpt.yaml: " in begun.stderr
    assert "min" in begun.stderr
    typed("mutransfer check gpt.yaml --gates coordinates --widths 64,128,256 --seeds 3", 0)
    trained = typed(told(begun.stderr))
    assert re.search(
        r"width \d+: \d+ of \d+ trials done, \d+ diverged, best lr 0\.0", trained.stderr
    )
    assert "\x1b" not in trained.stderr
    fitted = typed("mutransfer fit-exponents runs/gpt -o runs/gpt/exponents.yaml")
    assert "optimal lr by width" in fitted.stderr
    assert told(fitted.stderr) == "mutransfer transfer runs/gpt/exponents.yaml --width 4096"
    recipe = typed(
        "mutransfer transfer runs/gpt --model my_gpt.py:build --width 512 -o recipe.yaml"
    )
    assert "At width 512 use lr 0.0" in recipe.stderr
    assert recipe.stderr.count("warning: folded: ") <= 2
    checked = typed("mutransfer check recipe.yaml --model my_gpt.py:build --gates static")
    assert "static: pass" in checked.stderr
    typed("mutransfer report runs/gpt --width 512 --figures figures -o report.html")
    assert "At width 512 use lr 0.0" in Path("report.html").read_text()
    assert Path("figures/bowls-lr.pdf").exists()


def test_an_hour_with_a_table_and_a_large_target(folder: Path) -> None:
    write_runs(folder / "wandb.csv")
    begun = typed("mutransfer init --table wandb.csv -o protocol.yaml")
    protocol = Path("protocol.yaml").read_text()
    assert protocol.count("CHECK") > 2
    typed(told(begun.stderr) + " -o first.yaml", 0)
    known = protocol.replace("name: standard\n  lr_rule: global", "name: mup")
    known = re.sub(r"batch: 1 .*", "batch: 256", re.sub(r"steps: 1 .*", "steps: 10000", known))
    known = re.sub(r"^model:.*", HEADS, known, flags=re.MULTILINE)
    known = known.replace("# context: 1024", "context: 1024").replace("# schedule:", "schedule:")
    Path("protocol.yaml").write_text(known.replace("# warmup:", "warmup:"))
    fitted = typed(told(begun.stderr) + " -o exponents.yaml")
    assert "1 row left out: 1 crashed" in fitted.stderr
    assert "The learning rate transfers across width." in fitted.stderr
    emitted = typed("mutransfer transfer exponents.yaml --width 4k --to megatron -o megatron.py")
    assert re.search(
        r"At width 4000 use lr 0\.00\d+; between 0\.00\d+ and 0\.00\d+ with 95%", emitted.stderr
    )
    assert compile(Path("megatron.py").read_text(), "megatron.py", "exec")
    wrong = typed("mutransfer transfer wandb.csv --width 4096", 2)
    assert "is a table of runs; run `mutransfer fit-exponents wandb.csv` first" in wrong.stderr
    assert (
        "--width 4q: expected a whole number" in typed("mutransfer transfer --width 4q", 2).stderr
    )


HEADS = (
    "model: {depth: 12, head_size: 64, init_std: {embedding: 0.02, hidden: 0.02, readout: 0.02}}"
)


def write_runs(path: Path) -> None:
    """Runs as a tracker exports them, one of them crashed; the best rate is 2^-7 at every width."""
    random = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        table = csv.writer(file, quoting=csv.QUOTE_ALL)
        table.writerow(["Name", "State", "Created", "n_embd", "lr", "seed", "val/loss"])
        for number in range(84):
            width, place, seed = 128 * 2 ** (number // 14 / 2), number % 7, number // 7 % 2
            rate = 2.0 ** (-9.5 + 0.75 * place)
            loss = 3.2 - 0.12 * math.log2(width / 128) + 0.03 * (math.log2(rate) + 7) ** 2
            state, shown = "finished", f"{loss + random.normal(0, 0.0015):.4f}"
            if number == 17:
                state, shown = "crashed", ""
            name, day = f"sweep-{number}", f"2026-11-20T{number % 24:02d}:00:00.000Z"
            table.writerow([name, state, day, round(width), f"{rate:.6g}", seed, shown])


def test_an_hour_in_ci(folder: Path) -> None:
    typed("mutransfer sweep-proxy quickstart -o run")
    checked = typed("mutransfer check run -o run/check.yaml")
    assert "verdict: pass" in checked.stderr
    again = typed("mutransfer sweep-proxy quickstart -o run")
    assert "records: " in again.stderr
    typed("mutransfer fit-exponents run -o run/exponents.yaml")
    typed("mutransfer transfer run --width 4096 -o recipe.yaml")
    typed("mutransfer check recipe.yaml --gates static")
    mistyped = typed("mutransfer sweep-proxy quikstart", 2)
    assert "did you mean quickstart, quickstart-standard" in mistyped.stderr
    assert len(mistyped.stderr) < 300
    Path("bad.yaml").write_text(
        (ROOT / "recipes" / "quickstart.yaml").read_text().replace("name: mup", "name: muP")
    )
    spelt = typed("mutransfer sweep-proxy bad.yaml", 2)
    assert re.search(r"bad\.yaml line \d+, column \d+: parameterization\.name", spelt.stderr)
    assert "did you mean 'mup'?" in spelt.stderr
