"""Keys and names in the two tables.

A decision is one item with the partition key ``tx_id`` and the sort key ``decision_id``. The counters are spread over
shards. Each shard is one item with ``total``, ``high``, a number per risk level and a number per rule.
"""

from scoring.decision import Decision

LEVEL_PREFIX = "level#"
RULE_PREFIX = "rule#"


def partition_key(tx_id: str | None, decision_id: str) -> str:
    """Return the partition key of a decision: its transaction id, or a key made of its own id.

    The latter begins with a control character, which no ``tx_id`` contains. So the decision never shares a partition
    with a transaction whose id equals its decision id.
    """
    return tx_id or "\x1f" + decision_id


def key(decision: Decision) -> tuple[str, str]:
    """Return partition key and sort key of a decision."""
    decision_id = decision.decision_id
    return partition_key(decision.transaction.get("tx_id"), decision_id), decision_id
