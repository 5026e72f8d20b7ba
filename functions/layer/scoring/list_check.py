"""List checks of rules. Imported only if a rule set has any."""

from typing import NamedTuple


class ListCheck(NamedTuple):
    """A list that rules search for the value of a field.

    Attributes
    ----------
    name
        Name of the list.
    field
        A field that is a string.
    """

    name: str
    field: str

    @property
    def fact(self) -> str:
        """Name of the fact that is True if the value is on the list, and False if it is not."""
        return f"{self.field} in list {self.name}"
