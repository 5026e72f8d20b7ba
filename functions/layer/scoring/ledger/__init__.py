"""The ledger: decisions and counters in DynamoDB, each decision written and counted exactly once.

``recorder`` passes decisions to ``writer`` or, while DynamoDB is unavailable, to ``outbox``. ``reader`` reads
decisions and counters. ``tables`` defines their keys and names.
"""
