from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.columns import parse_columns
from mutransfer_cli.spec.results import Results, read_results
from mutransfer_cli.spec.rows import Choices

HEADER = "width,lr,loss\n"


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def file(text: str | bytes, name: str = "t.csv") -> Path:
    path = Path(name)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def results(text: str | bytes, columns: str = "", **options: Any) -> Results:
    named = parse_columns(columns) if columns else {}
    return read_results([file(text)], Choices(named, **options))


def read(text: str | bytes, columns: str = "", **options: Any) -> pd.DataFrame:
    return results(text, columns, **options).rows


def rows(frame: pd.DataFrame) -> list[list[Any]]:
    """Rows of cells, with None for NaN."""
    return frame.astype(object).where(frame.notna(), None).to_numpy().tolist()


def test_the_users_columns_come_under_our_names() -> None:
    frame = read(
        "run,dim,base_lr,val_loss,wd,g\na,16,3e-4,3.5,0.1,2\nb,32,2^-9,3,0,1\n",
        "width=dim,lr=base_lr,loss=val_loss,weight_decay=wd,lr_mult.hidden=g",
    )
    assert list(frame) == ["width", "lr", "loss", "weight_decay", "lr_mult.hidden"]
    assert [str(dtype) for dtype in frame.dtypes] == ["int64", *["float64"] * 4]
    assert rows(frame) == [[16, 3e-4, 3.5, 0.1, 2], [32, 2**-9, 3, 0, 1]]
    assert list(frame.index) == [0, 1]


@pytest.mark.parametrize(
    "text",
    [
        "width,lr,loss\n16,0.1,3\n",
        "width\tlr\tloss\n16\t0.1\t3\n",
        "width;lr;loss\r\n16;0.1;3\r\n",
        "\ufeff\nwidth, lr, loss\n\n 1.6e1 , 1e-1 , 3\n,,\n",
        '"width","lr","loss"\n"16","0.1","3"',
        '\n{"width": 16, "lr": 0.1, "loss": 3}\n',
        '{"width": 16, "lr": "1e-1", "loss": 3.0, "config": {"note": 2}}',
        "\ufeff" + '{"lr": 0.1, "width": 16.0, "loss": 3}\r\n\r\n',
    ],
)
def test_the_format_is_recognised_by_content(text: str) -> None:
    for name in ("t.csv", "t.jsonl", "t.parquet", "t"):
        assert rows(read_results([file(text, name)]).rows) == [[16, 0.1, 3]]


def test_stdin_is_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"width,lr,loss\n16,1,3\n")))
    assert rows(read_results([None]).rows) == [[16, 1, 3]]


def test_parquet_is_read_with_its_index() -> None:
    pytest.importorskip("pyarrow")
    table = pd.DataFrame({"width": [16, 32], "lr": [0.1, 0.2], "loss": [3.0, None], "seed": [0, 1]})
    table.set_index("width").to_parquet("t.csv")
    expected = [[16, 0.1, 3, 0], [32, 0.2, None, 1]]
    assert rows(read_results([Path("t.csv")]).rows) == expected
    table.assign(lr=["0.1", "fast"]).to_parquet("t.csv")
    with pytest.raises(InputError, match=r"t.csv row 2: lr: .*found 'fast'"):
        read_results([Path("t.csv")])
    with pytest.raises(InputError, match=r"t.csv: not a Parquet file"):
        read(b"PAR1 and then nothing")


def test_parquet_without_pyarrow_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install pyarrow"):
        read(b"PAR1....PAR1")


@pytest.mark.parametrize(
    ("header", "options", "loss"),
    [
        ("train_loss,val_loss,a,loss", {}, 2),
        ("train_loss,a,eval_loss,b", {}, 3),
        ("train_loss,a,metrics.val/loss,b", {}, 3),
        ("train_loss,a,b,loss", {}, 4),
        ("train_loss,a,b,c", {}, 1),
        ("train_loss,a,b,loss", {"metric": "train_loss"}, 1),
        ("train_loss,a,b,loss", {"columns": "loss=b"}, 3),
    ],
)
def test_the_loss_is_the_column_named_or_the_usual_one(
    header: str, options: dict[str, str], loss: float
) -> None:
    assert list(read(f"width,lr,{header}\n16,0.1,1,2,3,4\n", **options)["loss"]) == [loss]


def test_two_columns_for_the_loss_are_refused() -> None:
    with pytest.raises(InputError, match=r"^columns loss=a and metric b: name one column"):
        read("width,lr,a,b\n16,0.1,1,2\n", "loss=a", metric="b")


@pytest.mark.parametrize("loss", ["", "  ", "nan", "NaN", "inf", "-Infinity", "null", "None", "NA"])
def test_a_loss_that_is_not_finite_is_a_diverged_run(loss: str) -> None:
    assert rows(read(f"{HEADER}16,0.1,3\n16,0.2,{loss}\n")) == [[16, 0.1, 3], [16, 0.2, None]]


def test_json_has_more_ways_to_have_no_loss() -> None:
    frame = read(
        '{"width": 16, "lr": 1, "loss": null}\n'
        '{"width": 16, "lr": 2, "loss": NaN}\n'
        '{"width": 16, "lr": 4, "loss": -Infinity}\n'
        '{"width": 16, "lr": 8}\n'
    )
    assert rows(frame) == [[16, lr, None] for lr in (1, 2, 4, 8)]


def test_failed_runs_are_dropped_and_diverged_ones_have_no_loss() -> None:
    frame = read(
        "width,lr,loss,status\n16,1,3,ok\n16,2,9e9,diverged\n16,,,failed\n16,3,burst, Diverged \n"
    )
    assert rows(frame) == [[16, 1, 3], [16, 2, None], [16, 3, None]]
    with pytest.raises(InputError, match=r"t.csv: no row has a status of a run that finished"):
        read("width,lr,loss,status\n16,1,3,failed\n")


def test_sources_are_joined_in_their_order() -> None:
    csv = file("width,lr,loss,seed\n16,1,3,0\n")
    json = file('{"loss": 2, "seed": 1, "lr": 1, "width": 16}', "t.jsonl")
    assert rows(read_results([json, csv]).rows) == [[16, 1, 2, 1], [16, 1, 3, 0]]


@pytest.mark.parametrize(
    ("first", "second", "sentence"),
    [
        ("width,lr,loss,seed\n1,1,1,0\n", HEADER + "1,1,1\n", "b: has no column 'seed', which a "),
        (HEADER + "1,1,1\n", "width,lr,loss,seed\n1,1,1,0\n", "a: has no column 'seed', which b "),
        (
            "width,lr,eval_loss\n1,1,1\n",
            "width,lr,train_loss\n1,1,1\n",
            "b: loss would be 'train_loss', but 'eval_loss' in a; .*loss=COLUMN",
        ),
    ],
)
def test_sources_with_other_columns_are_refused(first: str, second: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_results([file(first, "a"), file(second, "b")])


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        (["0", "12"], [0, 12]),
        (["0", "-1"], [0, -1]),
        (["a", "0"], ["a", "0"]),
        (["01", "1"], ["01", "1"]),
        (["0.5", "1"], ["0.5", "1"]),
    ],
)
def test_seeds_are_numbers_when_all_are(seeds: list[str], expected: list[Any]) -> None:
    frame = read("width,lr,loss,seed\n" + "".join(f"16,1,3,{seed}\n" for seed in seeds))
    assert frame["seed"].tolist() == expected


def test_the_column_to_group_by_is_kept_as_text() -> None:
    text = "width,lr,loss,variant\n16,1,3,08\n16,1,2,none\n"
    assert rows(read(text, by=("variant",))) == [[16, 1, 3, "08"], [16, 1, 2, "none"]]
    assert list(read(text)) == ["width", "lr", "loss"]
    json = '{"width": 16, "lr": 1, "loss": 3, "wd": 8}'
    assert rows(read(json, "weight_decay=wd", by=("wd",))) == [[16, 1, 3, 8.0, "8"]]


@pytest.mark.parametrize(
    ("text", "by", "sentence"),
    [
        ("width,lr,loss,opt\n1,1,1,a\n1,1,1, \n", "opt", r"t.csv line 3: opt is empty; every row"),
        ('{"width": 1, "lr": 1, "loss": 1, "opt": null}', "opt", "t.csv line 1: opt is empty"),
        ("width,lr,loss,optim\n1,1,1,a\n", "optm", "no column 'optm' to group by; .* 'optim'"),
        ("width,lr,loss,opt\n1,1,1,a\n1,1,inf,b\n1,2,,b\n", "opt", "^by opt: no run of 'b' has a"),
        (HEADER + "1,1,1\n", "lr", "^by lr: the fit uses this column itself"),
    ],
)
def test_groups_that_cannot_be_used_are_named(text: str, by: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read(text, by=(by,))


def test_without_seeds_repeated_rows_are_replicates() -> None:
    text = HEADER + "16,1,3\n16,1,3\n16,1,4\n"
    assert list(read(text)["loss"]) == [3, 3, 4]
    assert list(read(text, keep="row")["loss"]) == [4]


def test_with_seeds_a_row_repeated_exactly_counts_once() -> None:
    text = "width,lr,loss,seed\n16,1,3,0\n16,1e0,3.0,0\n16,1,3,1\n16,2,,0\n16,2,nan,0\n"
    assert rows(read(text)) == [[16, 1, 3, 0], [16, 1, 3, 1], [16, 2, None, 0]]


REPEATED = "width,lr,loss,seed,opt\n16,1,3,0,a\n16,1,2,0,b\n\n16,1,2,0,a\n16,1,3,0,a\n"


def test_with_seeds_a_run_with_two_losses_is_refused() -> None:
    sentence = (
        r"t.csv line 2 and t.csv line 5: the same run \(width 16, lr 1.0, seed 0, opt a\) with "
        r"losses 3.0 and 2.0; .*or keep the last"
    )
    with pytest.raises(InputError, match=sentence):
        read(REPEATED, by=("opt",))
    first, second = file("width,lr,loss,seed\n16,1,3,0\n", "a"), file(REPEATED, "b")
    with pytest.raises(InputError, match=r"a line 2 and b line 3: .*losses 3.0 and 2.0"):
        read_results([first, second])


def test_the_last_of_them_is_kept_on_demand() -> None:
    assert rows(read(REPEATED, by=("opt",), keep="row")) == [
        [16, 1, 2, 0, "b"],
        [16, 1, 3, 0, "a"],
    ]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("16,fast,3,0,1", "lr: expected a number such as 0.001, 3e-4 or 2\\^-9, found 'fast'"),
        ("16,'0,001',3,0,1", "lr: .*found '0,001' \\(a decimal comma\\? write 0.001\\)"),
        ("64 (small),1,3,0,1", "width: .*'64 \\(small\\)' \\(write the number alone: 64\\)"),
        ("1x,1,3,0,1", "width: .*found '1x' \\(write the number alone: 1\\)"),
        ("16,1,\u2014,0,1", "loss: .*\\(where there is no value, leave the cell empty\\)"),
        ("16,1,high,0,1", "loss: expected a number .*found 'high'"),
        ("16.5,1,3,0,1", "width: expected a positive whole number, found '16.5'"),
        ("0,1,3,0,1", "width: expected a positive whole number, found '0'"),
        ("inf,1,3,0,1", "width: expected a positive whole number, found 'inf'"),
        ("16,0,3,0,1", "lr: expected a positive, finite number, found '0'"),
        ("16,inf,3,0,1", "lr: expected a positive, finite number, found 'inf'"),
        ("16,1,3,-0.1,1", "weight_decay: expected zero or a positive, .*found '-0.1'"),
        ("16,1,3,0,0", "lr_mult.hidden: expected a positive, finite number, found '0'"),
    ],
)
def test_a_wrong_value_is_named_with_its_line(row: str, sentence: str) -> None:
    header = "width,lr,loss,weight_decay,lr_mult.hidden\n"
    text = f"{header}16,1,3,0,1\n\n{row}\n".replace("'", '"')
    with pytest.raises(InputError, match=f"t.csv line 4: {sentence}; correct that value"):
        read(text)


@pytest.mark.parametrize("value", ["true", "[0.1]", "{}", '"x"', "1" + "0" * 400])
def test_only_numbers_are_numbers_in_json(value: str) -> None:
    good = '{"width": 16, "lr": 1, "loss": 3}\n'
    with pytest.raises(InputError, match=r"t.csv line 2: lr: expected a number"):
        read(good + good.replace(" 1,", f" {value},"))


def test_lines_are_counted_as_in_an_editor() -> None:
    text = 'width,lr,loss,note\n16,1,3,"two\nlines"\nx,1,3,\n'
    with pytest.raises(InputError, match=r"t.csv line 4: width: .*found 'x'"):
        read(text)
    with pytest.raises(InputError, match=r"t.csv line 3: width: .*found 'x'"):
        read("width,lr,loss,status\n16,1,3,failed\nx,1,3,ok\n")


@pytest.mark.parametrize(
    ("text", "columns", "sentence"),
    [
        ("dim,lr,loss\n1,1,1\n", "", r"no column 'width'; .*width=COLUMN.*dim, lr, loss"),
        ("dim,lr,loss\n1,1,1\n", "width=dm", r"no column 'dm' for width; .*did you mean 'dim'"),
        ("width,lr,val/los\n1,1,1\n", "", r"no column 'loss'; .*did you mean 'val/los'"),
        (HEADER + "1,1,1\n", "seed=run", r"no column 'run' for seed; .*\(valid: width, lr, loss\)"),
        ("width,lr,lr,loss\n1,1,1,1\n", "", "has the column 'lr' twice; rename one"),
        ("16,0.1,3\n16,0.2,3\n", "", r"no column 'width'; .*\(valid: 16, 0.1, 3\)"),
    ],
)
def test_a_missing_column_is_named_with_what_is_there(
    text: str, columns: str, sentence: str
) -> None:
    with pytest.raises(InputError, match=f"t.csv: (has )?{sentence}"):
        read(text, columns)


def test_a_missing_metric_is_named_as_such() -> None:
    with pytest.raises(
        InputError, match=r"no column 'lss' for loss; name yours; .* 'loss'"
    ) as found:
        read(HEADER + "1,1,1\n", metric="lss")
    assert found.value.remedy == "metric"
    with pytest.raises(InputError, match="no column 'lss' for loss") as found:
        read(HEADER + "1,1,1\n", "loss=lss")
    assert found.value.remedy == "columns"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "t.csv: is empty"),
        (" \n\n", "t.csv: is empty"),
        (HEADER, "t.csv: has no rows"),
        (",,\n", "t.csv: has no rows"),
        ("{}\n", "t.csv: has no rows"),
        (HEADER + "16,1,3\n\n16,1\n", "t.csv line 4: has 2 fields where the header has 3"),
        (HEADER + "16,1,3,4\n", "t.csv line 2: has 4 fields where the header has 3"),
        (HEADER + '16,1,3\n16,1,"3\n', "t.csv line 3: not CSV"),
        (HEADER + f"16,1,{'3' * 200_000}\n", "t.csv line 2: not CSV .*limit"),
        ('{"width": 16}\n\n{"width": 16,\n', "t.csv line 3: not JSON .*write one object per line"),
        ("{\n", "t.csv line 1: not JSON"),
        ("[1]", "t.csv row 1: expected a JSON object, found 1; write one object"),
        ('{"width": 16}\n[1]\n', r"t.csv line 2: expected a JSON object, found \[1\]"),
        ("w,lr,\u20ac\n16,1,3\n".encode("cp1252"), r"t.csv: is not UTF-8 text \(byte 5\)"),
    ],
)
def test_what_is_not_a_table_is_refused(text: str | bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read(text)


def test_a_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(InputError, match=r"gone.csv: cannot be read \(No such file"):
        read_results([Path("gone.csv")])


@pytest.mark.timed
def test_a_long_table_is_read_at_once() -> None:
    lines = [f"{16 << run % 5},2^-{run % 11},{3 + run / 7},{run}\n" for run in range(2_000)]
    path = file("width,lr,loss,seed\n" + "".join(lines))
    start = time.perf_counter()
    assert len(read_results([path]).rows) == 2_000
    assert time.perf_counter() - start < 0.3


def test_runs_of_one_width_that_differ_in_a_size_are_refused() -> None:
    text = "width,lr,loss,depth\n16,1,3,2\n16,2,3,4\n32,1,3,4\n"
    with pytest.raises(InputError, match=r"depth differs at width 16 \(2 and 4\): .*by depth"):
        read(text)
    assert list(read(text, by=("depth",))["depth"]) == ["2", "4", "4"]


def test_a_size_may_move_with_width_and_a_run_that_stopped_early_has_fewer_steps() -> None:
    moving = read("width,lr,loss,n_layer\n16,1,3,2\n16,2,3,2\n32,1,3,4\n", "depth=n_layer")
    assert list(moving["depth"]) == ["2", "2", "4"]
    assert len(read("width,lr,loss,steps\n16,1,3,100\n16,2,nan,7\n")) == 2


def test_a_training_loss_beside_another_is_kept() -> None:
    assert list(read("width,lr,val_loss,train_loss\n1,1,2,3\n")) == [
        *("width", "lr", "loss", "train_loss")
    ]
    assert list(read("width,lr,train_loss\n1,1,2\n")) == ["width", "lr", "loss"]
