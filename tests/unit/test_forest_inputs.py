"""Inputs of models: facts as numbers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.scorers.forest.inputs import Category, Inputs, Number

INPUTS = Inputs(
    [
        Number("amount", -1.0),
        Category("category", ("food", "travel")),
        Number("customer.is_new", 0.5),
        Category("store", ("A",)),
    ]
)
COMPLETE = {"amount": 20.5, "category": "travel", "customer.is_new": True, "store": "A"}


def test_columns() -> None:
    assert INPUTS.names == ("amount", "category=food", "category=travel", "customer.is_new", "store=A")
    assert INPUTS.owners == (0, 1, 1, 2, 3)


@pytest.mark.parametrize(
    ("facts", "row", "unseen"),
    [
        (COMPLETE, [20.5, 0, 1, 1, 1], []),
        ({}, [-1, 0, 0, 0.5, 0], []),
        ({"amount": 0, "category": "food"}, [0, 1, 0, 0.5, 0], []),
        ({"amount": None, "customer.is_new": False}, [-1, 0, 0, 0, 0], []),
        ({"amount": 2**63 - 1}, [2.0**63, 0, 0, 0.5, 0], []),
        ({"category": "Food", "store": ""}, [-1, 0, 0, 0.5, 0], ["category", "store"]),
        ({"category": "x", "store": "A"}, [-1, 0, 0, 0.5, 1], ["category"]),
        # Facts that the model does not use
        ({"food": 1, "category=food": 1, "customer_id": "food"}, [-1, 0, 0, 0.5, 0], []),
    ],
)
def test_row(facts: dict[str, Any], row: list[float], unseen: list[str]) -> None:
    found = INPUTS.row(facts)
    assert found == row
    assert {type(number) for number in found} == {float}
    assert INPUTS.unseen(facts) == unseen


@given(st.permutations(list(COMPLETE.items())))
def test_order_of_facts_makes_no_difference(items: list[tuple[str, Any]]) -> None:
    assert INPUTS.row(dict(items)) == INPUTS.row(COMPLETE)


def test_rows_are_independent() -> None:
    INPUTS.row(COMPLETE)
    first = INPUTS.row({})
    first[0] = 99
    assert INPUTS.row({}) == [-1, 0, 0, 0.5, 0]


def test_category_without_values_has_no_column() -> None:
    inputs = Inputs([Category("category", ()), Number("amount", 0.0)])
    assert inputs.names == ("amount",)
    assert inputs.owners == (1,)
    assert inputs.row({"category": "food", "amount": 3}) == [3]
    assert inputs.unseen({"category": "food"}) == ["category"]
