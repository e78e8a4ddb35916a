"""CSV and its relatives, as spreadsheets, numpy and people write them."""

from __future__ import annotations

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.delimited import read_delimited

ROW = {"width": "16", "lr": "0.1", "loss": "3"}


@pytest.mark.parametrize(
    "text",
    [
        "width,lr,loss\n16,0.1,3\n",
        "width;lr;loss\n16;0.1;3\n",
        "width|lr|loss\n16|0.1|3\n",
        "width\tlr\tloss\n16\t0.1\t3\n",
        "width lr   loss\n16  0.1 3\n",
        '"width","lr","loss"\r\n"16","0.1","3"\r\n',
        "# made by hand\n# on Monday\nwidth,lr,loss\n16,0.1,3\n",
        "# width,lr,loss\n16,0.1,3\n",  # numpy.savetxt
        "# width lr loss\n16 0.1 3\n",
        "sep=;\nwidth;lr;loss\n16;0.1;3\n",
        "width,lr,loss,,\n16,0.1,3,,\n",  # delimiters at the ends of lines
        "width;lr;loss\n16;0,1;3\n",  # decimal commas
    ],
)
def test_delimiters_comments_and_decimal_commas_are_found(text: str) -> None:
    assert read_delimited(text, "t").cells.to_dict("records") == [ROW]


def test_lines_are_counted_from_the_top_of_the_file() -> None:
    table = read_delimited("# note\n\nwidth,lr\n16,0.1\n\n16,0.2\n", "t.csv")
    assert [table.place(position) for position in (0, 1)] == ["t.csv line 4", "t.csv line 6"]


def test_decimal_commas_are_said() -> None:
    table = read_delimited("lr\tloss\tnote\n0,1\t3,25\t1,2\n0,2\t3\tok\n", "t.csv")
    assert table.cells["loss"].tolist() == ["3.25", "3"]
    assert table.cells["note"].tolist() == ["1,2", "ok"]  # not a column of numbers
    assert table.notes == ("t.csv: decimal commas are read as points",)


@pytest.mark.parametrize(
    "text",
    ["width;lr\n1,5;0.1\n", "width;steps\n1,024;2,048\n", 'width,lr\n"1,5",2\n'],
    ids=["with points", "of thousands", "beside commas"],
)
def test_commas_that_may_be_something_else_stay(text: str) -> None:
    table = read_delimited(text, "t")
    assert "," in str(table.cells.iloc[0, 0])
    assert not table.notes


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a,b\n1,2,3\n", "t line 2: has 3 fields where the header has 2; quote"),
        ("My results\n\nwidth,lr\n16,0.1\n", "t line 3: has 2 fields where line 1 has 1; remove"),
        ('a,b\n1,"2\n', "t line 2: not CSV"),
    ],
)
def test_lines_that_do_not_fit_are_named(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_delimited(text, "t")
