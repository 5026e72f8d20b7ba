from scoring import errors
from scoring.errors import ScoringError


def test_headers_of_errors() -> None:
    assert errors.MethodNotAllowed("x", "POST").headers == {"Allow": "POST"}
    assert errors.StoreUnavailable().headers == {"Retry-After": "1"}


def test_docstring_draws_the_hierarchy() -> None:
    def tree(cls: type[ScoringError], depth: int = 0) -> list[tuple[int, str, str]]:
        line = (depth, cls.__name__, str(getattr(cls, "status", "")))
        return [line, *(each for child in cls.__subclasses__() for each in tree(child, depth + 1))]

    drawn = []
    for text in (errors.__doc__ or "").splitlines():
        name = text.lstrip("│├└─ ")
        if name.split() and name.split()[0].isidentifier() and hasattr(errors, name.split()[0]):
            status = next((word for word in name.split() if word.isdigit()), "")
            drawn.append(((len(text) - len(name)) // 4 - 1, name.split()[0], status))
    assert drawn == tree(ScoringError)
