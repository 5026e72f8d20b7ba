"""The log of ``make run``: one line per request and per alert, and errors of the service, as text or JSON.

:mod:`.bootstrap` formats the log lines of the functions.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO

LOGS = ("text", "json")

_RED, _YELLOW, _RESET = "\x1b[31m", "\x1b[33m", "\x1b[0m"
_CLIENT_ERROR, _SERVER_ERROR = 400, 500
# Fields by which a decision is recognized
_DECISION_FIELDS = ("risk_level", "score", "triggered_rules", "tx_id", "decision_id")


class Console:
    """Prints whole lines, from any thread.

    Parameters
    ----------
    logs
        One of :data:`LOGS`.
    stream
        Standard error by default. Colors are used if it is a terminal and ``NO_COLOR`` is not set.
    """

    def __init__(self, logs: str, stream: TextIO | None = None) -> None:
        self.logs = logs
        self._stream = stream or sys.stderr
        self._colors = self._stream.isatty() and not os.environ.get("NO_COLOR")
        self._reported: set[str] = set()

    def request(self, request: str, status: int, headers: Mapping[str, str], body: bytes, seconds: float) -> None:
        """Print a request and its response.

        Parameters
        ----------
        request
            Method and path; empty if they could not be parsed.
        status, headers, body
            Of the response.
        seconds
            Time from the connection to the response.
        """
        milliseconds = round(seconds * 1000, 1)
        if self.logs == "json":
            method, _, path = request.partition(" ")
            self._json(message="request", method=method, path=path, status=status, milliseconds=milliseconds)
        else:
            details = self._details(headers, body)
            self._line([str(status), request, *details, f"{milliseconds:.0f} ms"], _color(status))

    def alert(self, alert: Mapping[str, Any]) -> None:
        """Print an alert, without its transaction."""
        if self.logs == "json":
            self._json(message="alert", **{name: one for name, one in alert.items() if name != "transaction"})
        else:
            self._line(["ALERT", *_decision(alert)], _YELLOW)

    def numbers(self, title: str, numbers: Mapping[str, int]) -> None:
        """Print named numbers in a line."""
        if self.logs == "json":
            self._json(message=title, **{name.replace(" ", "_"): number for name, number in numbers.items()})
        else:
            self._line([title.upper(), *(f"{name} {number:,}" for name, number in numbers.items())], "")

    def error(self, message: str) -> None:
        """Print an error of the service. The lines of requests that fail with it omit the message."""
        self._reported.add(message)
        if self.logs == "json":
            self._json(level="ERROR", message=message)
        else:
            self._line(["ERROR", message], _RED)

    def _details(self, headers: Mapping[str, str], body: bytes) -> list[str]:
        """Summarise the decision, the results of a batch, or the error in a response."""
        if headers.get("Content-Type") != "application/json":
            return []
        try:
            content = json.loads(body or b"null")
        except (ValueError, RecursionError):
            return []
        if not isinstance(content, dict):
            return []
        if all(name in content for name in _DECISION_FIELDS):
            return [
                *_decision(content),
                *(["replayed"] if "Idempotent-Replayed" in headers else []),
                *(["not recorded yet"] if content.get("recorded") is False else []),
            ]
        if isinstance(results := content.get("results"), list):
            return _results(results)
        error = content.get("error") or content.get("message")
        return [str(error)] if error and error not in self._reported else []

    def _line(self, parts: list[str], color: str) -> None:
        text = _printable("  ".join([time.strftime("%H:%M:%S"), *filter(None, parts)]))
        self._print(f"{color}{text}{_RESET}" if color and self._colors else text)

    def _json(self, **entry: Any) -> None:
        timestamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._print(json.dumps({"timestamp": timestamp, **entry}, separators=(",", ":")))

    def _print(self, line: str) -> None:
        # A single write, so that lines of several threads do not mix.
        with suppress(OSError):  # the reader is gone
            self._stream.write(line + "\n")
            self._stream.flush()


def _results(results: list[Any]) -> list[str]:
    """Summarise a batch: the number of its results, and of some kinds among them."""
    numbers = {
        "replayed": sum("replayed" in one for one in results),
        "not recorded yet": sum("recorded" in one for one in results),
        "rejected": sum("error" in one for one in results),
    }
    return [f"{len(results)} transactions", *(f"{number} {kind}" for kind, number in numbers.items() if number)]


def _decision(content: Mapping[str, Any]) -> list[str]:
    """Summarise a decision."""
    return [
        f"{content['risk_level']} {content['score']}",
        ", ".join(map(str, content["triggered_rules"])) or "no rule",
        f"tx {content['tx_id']}",
        f"decision {content['decision_id']}",
    ]


def _color(status: int) -> str:
    if status >= _SERVER_ERROR:
        return _RED
    return _YELLOW if status >= _CLIENT_ERROR else ""


def _printable(text: str) -> str:
    """Escape control characters, with which a caller could otherwise control the terminal."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
