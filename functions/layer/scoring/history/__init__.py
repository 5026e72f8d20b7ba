"""History: what earlier transactions with the same value of a field, such as ``customer_id``, looked like.

A rule set declares histories. Each value of the field has a profile, which :mod:`scoring.history.profiles` reads and
updates. This package uses neither a clock nor AWS, so the same code computes history online and offline.
"""

from typing import NamedTuple

# Types of the numbers in a history, by name; their meaning is in `scoring.history.profiles`.
FEATURES = {
    "count_1h": "integer",
    "count_24h": "integer",
    "count_7d": "integer",
    "sum_24h": "number",
    "max_24h": "number",
    "seconds_since_last": "integer",
    "amount_ratio": "number",
    "distinct_24h": "integer",
    "is_new": "boolean",
}


class History(NamedTuple):
    """A history that a rule set declares.

    Attributes
    ----------
    name
        Name in the response, and before the dot in rules, as in ``customer.count_1h``.
    by
        Field whose value the transactions have in common.
    distinct
        Field whose distinct values are counted.
    """

    name: str
    by: str
    distinct: str
