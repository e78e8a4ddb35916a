"""Folders: which files are read, what their paths say, and the settings beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.tree import path_regex, read_json_file, read_yaml_file, tree_of


def write(root: Path, path: str, text: str = "") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_hidden_folders_and_links_are_left_out(tmp_path: Path) -> None:
    for path in ("a/log.csv", "a/.git/x.csv", ".hidden/y.csv", "a/.hydra/config.yaml", "top.csv"):
        write(tmp_path, path)
    (tmp_path / "latest").symlink_to(tmp_path / "a")
    tree = tree_of(tmp_path)
    assert tree.paths == ["top.csv", "a/log.csv", "a/.hydra/config.yaml"]
    assert tree.has_folder("a")
    assert tree.holding("log.csv") == ["a"]
    assert [name for name, _ in tree.inside("a")] == ["log.csv", ".hydra/config.yaml"]


@pytest.mark.parametrize(
    ("pattern", "path", "values"),
    [
        (
            "width{width}_depth{depth}_seed{seed}_lr{lr}/log.csv",
            "width64_depth2_seed1_lr0.0625/log.csv",
            {"width": "64", "depth": "2", "seed": "1", "lr": "0.0625"},
        ),
        ("w{width}/lr={lr}/*.csv", "runs/w64/lr=1e-3/log.csv", {"width": "64", "lr": "1e-3"}),
        ("w{width}/**/log.csv", "w64/a/b/log.csv", {"width": "64"}),
        ("w{width}_lr{lr}", "w64_lr0.1/version_0/metrics.csv", {"width": "64", "lr": "0.1"}),
        ("w{width}.json", "w64.json", {"width": "64"}),
        ("{lr_mult.hidden}/x", "2/x", {"lr_mult.hidden": "2"}),
    ],
)
def test_values_in_paths(tmp_path: Path, pattern: str, path: str, values: dict[str, str]) -> None:
    write(tmp_path, path)
    write(tmp_path, "notes.txt")
    tree = tree_of(tmp_path, pattern)
    assert tree.paths == [path]
    assert tree.values(path) == values


@pytest.mark.parametrize("pattern", ["{width}{width}", "{}", "{two words}"])
def test_braces_hold_a_name(pattern: str) -> None:
    with pytest.raises(InputError, match="is not a name, or is there twice"):
        path_regex(pattern)


def test_a_pattern_that_fits_nothing_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "width64/log.csv")
    with pytest.raises(InputError, match=r"fits none of the files .*first are width64/log.csv"):
        tree_of(tmp_path, "w_{width}/log.csv")


def test_the_nearest_settings_count(tmp_path: Path) -> None:
    write(tmp_path, "config.yaml", "seed: 0\noptim: {lr: 1e-3}\n_wandb: {}\n")
    write(tmp_path, "a/.hydra/config.yaml", "seed: 7\nmodel: {width: 64}\n")
    write(tmp_path, "a/log.csv")
    assert tree_of(tmp_path).settings("a/log.csv") == {
        "config.seed": 7,
        "config.optim.lr": 0.001,  # a number, which YAML 1.1 does not see
        "config.model.width": 64,
    }


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    write(tmp_path, "hparams.yaml", "lr: 0.1\nmodel: !!python/object:os.system [echo]\n")
    with pytest.raises(
        InputError,
        match=r"line 2: not plain YAML, or an object of Python; .*give a table",
    ):
        read_yaml_file(tmp_path / "hparams.yaml")
    write(tmp_path, "params.json", "{")
    with pytest.raises(InputError, match=r"params.json: not JSON"):
        read_json_file(tmp_path / "params.json")
    with pytest.raises(InputError, match=r"gone.json: cannot be read"):
        read_json_file(tmp_path / "gone.json")
