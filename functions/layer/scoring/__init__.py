"""The scoring layer: what the functions share.

A request passes through these modules in order:

- ``http_api`` reads API Gateway events and builds responses; ``batches`` splits a batch into transactions.
- ``fields`` reads the transaction and checks every field.
- ``scorers`` assesses it: ``scorers.rules`` evaluates the rule set in ``scorers/rules.json``.
- ``decision`` combines transaction, assessment, version and time.
- ``lookups`` decides by profiles and list entries, if the decision depends on any. ``history`` computes profiles.
- ``ledger`` writes decisions, their counts and profiles exactly once; it falls back to the outbox.
- ``aws`` calls DynamoDB and SQS: signature, timeouts, retries.

A Kafka record takes the same way from ``fields`` on: ``stream`` reads it. ``alerts`` makes the alert about a stored
decision. ``lists`` changes the lists that rules search, and ``forgetting`` deletes what is kept of a customer, both
through ``store``. All of them share ``assessment``, ``chunks``, ``deadlines``, ``errors``, ``list_check``, ``scorer``,
``settings``, ``strict_json``, ``telemetry`` and ``transaction``. ``contract`` has the OpenAPI document.
"""

from typing import Any


def score_transaction(tx: dict[str, Any]) -> dict[str, Any]:
    """Score a transaction given as a dict.

    Parameters
    ----------
    tx
        ``amount`` (required), ``category``, ``hour``, ``store``, ``tx_id``, and the fields that the rule set declares.

    Returns
    -------
    dict
        ``score`` (int), ``risk_level`` (LOW, MEDIUM, HIGH or CRITICAL) and ``triggered_rules`` (list of labels).

    Raises
    ------
    InvalidRequest
        A field is missing or invalid; the text names it.
    ConfigurationError
        The rule set, the model or the environment variable ``SCORER`` is invalid.

    Example
    -------
    >>> score_transaction({"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 10})
    {'score': 5, 'risk_level': 'CRITICAL', 'triggered_rules': ['R1: amount > 3000', 'R2: electronics > 1500']}
    """
    # Imported here, since most functions import this package but score nothing.
    from scoring import scorers  # noqa: PLC0415

    scorer = scorers.load()
    assessment = scorer.assess(scorer.fields.read(tx))
    return {
        "score": assessment.score,
        "risk_level": assessment.risk_level,
        "triggered_rules": list(assessment.triggered_rules),
    }
