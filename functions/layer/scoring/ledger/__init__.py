"""The ledger: decisions, counters and profiles in DynamoDB, each decision written and counted exactly once.

``recorder`` passes decisions to ``writer`` or, while DynamoDB is unavailable, to ``outbox``. ``known`` reads the
profiles and list entries that decisions depend on. ``reader`` reads decisions and counters. ``tables`` defines their
keys and names, and ``batch_get`` reads items by their keys.
"""
