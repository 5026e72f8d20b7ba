"""Walk decoded JSON documents."""

from collections.abc import Iterator
from typing import Any


def parts(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a document, itself included, with its name; items of a list have none."""
    yield name, value
    for key, item in value.items() if isinstance(value, dict) else ():
        yield from parts(item, key)
    for item in value if isinstance(value, list) else ():
        yield from parts(item)
