"""The shared package of the risk-scoring service: one module per concept.

========================  ====================================================================
:mod:`scoring.transaction`  the only input gate: strict JSON, then each field
:mod:`scoring.rules`        the rule set (``rules.json``) and ``score_transaction``
:mod:`scoring.decision`     a transaction, judged: what is answered and stored
:mod:`scoring.ledger`       decisions and counters in DynamoDB, written together or not at all
:mod:`scoring.outbox`       where decisions wait while the ledger cannot be reached
:mod:`scoring.recorder`     in the ledger, or else in the outbox
:mod:`scoring.reports`      reads the ledger: totals, and the decisions about a transaction
:mod:`scoring.aws`          calls to AWS: time limits, retries, deadlines
:mod:`scoring.connection`   one connection to a service: kept open, bounded in time and size
:mod:`scoring.signature`    Signature Version 4 of a call
:mod:`scoring.web`          API Gateway event in, response out
:mod:`scoring.settings`     the environment variables, read and checked
:mod:`scoring.telemetry`    logs and metrics
:mod:`scoring.errors`       the error hierarchy, each error with its HTTP status
========================  ====================================================================
"""

from scoring.rules import score_transaction

__all__ = ["score_transaction"]
