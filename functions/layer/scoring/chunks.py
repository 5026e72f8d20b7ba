"""Split work into chunks that a service accepts in one call."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def split(items: Iterable[T], size: Callable[[T], int], max_items: int, max_bytes: int) -> Iterator[list[T]]:
    """Yield the items in order, in chunks of limited length and size.

    Parameters
    ----------
    items
        Any number of items.
    size
        Returns the size of an item in bytes.
    max_items
        Maximum number of items in a chunk.
    max_bytes
        Maximum sum of their sizes. An item larger than that is a chunk of its own.
    """
    chunk: list[T] = []
    total = 0
    for item in items:
        item_size = size(item)
        if chunk and (len(chunk) == max_items or total + item_size > max_bytes):
            yield chunk
            chunk, total = [], 0
        chunk.append(item)
        total += item_size
    if chunk:
        yield chunk
