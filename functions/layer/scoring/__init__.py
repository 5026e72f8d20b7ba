"""The shared package of the risk-scoring service: one module per concept.

========================  ====================================================================
:mod:`scoring.transaction`  the only input gate: strict JSON, then each field
:mod:`scoring.rules`        the rule set (``rules.json``) and ``score_transaction``
:mod:`scoring.decision`     a transaction, judged: what is answered and stored
:mod:`scoring.ledger`       decisions and counters in DynamoDB, written together or not at all
:mod:`scoring.web`          API Gateway event in, response out
:mod:`scoring.settings`     the environment variables, read and checked
:mod:`scoring.telemetry`    structured logs
:mod:`scoring.errors`       the error hierarchy, each error with its HTTP status
========================  ====================================================================
"""

from scoring.rules import score_transaction

__all__ = ["score_transaction"]
