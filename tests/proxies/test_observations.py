"""Histories of activations."""

from __future__ import annotations

from mutransfer_cli.proxies.observations import Flow, joined, of_table


def test_an_activation_has_the_history_of_all_that_made_it() -> None:
    one = Flow(made=True, open=frozenset("a"), since=frozenset({("a", "product")}))
    other = Flow(open=frozenset("b"), is_score=True)
    assert joined([one, other]) == Flow(True, frozenset("ab"), one.since, True)
    assert joined([]) == Flow()


def test_rows_are_those_of_one_table_alone() -> None:
    assert of_table(frozenset({("a", "lookup")}))
    assert not of_table(frozenset({("a", "lookup"), ("b", "lookup")}))
    assert not of_table(frozenset({("a", "product")}))
    assert not of_table(frozenset())
