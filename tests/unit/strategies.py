"""Hypothesis strategies that several test files use."""

from hypothesis import strategies as st

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)
TRANSACTIONS = st.fixed_dictionaries(
    {"amount": st.integers(0, 30) | st.floats(0, 30)},
    optional={
        "hour": st.integers(0, 23),
        "category": st.sampled_from(["a", "b", "c"]),
        "store": st.sampled_from(["a", "b", "c"]),
    },
)
