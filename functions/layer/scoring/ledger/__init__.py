"""The ledger: decisions and counters in DynamoDB, each decision written and counted exactly once.

``recorder`` sends a decision through ``writer``, or to the ``outbox`` while DynamoDB is unavailable. ``reader`` reads
decisions and counters. ``tables`` defines their keys and names.
"""
