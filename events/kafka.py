"""Kafka as the commands in this folder use it: options, properties files, brokers and topics."""

import argparse
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from events.command import Interrupt, UnusableError, shown

DEFAULT_PORT = 9092
# The header of a record with its idempotency key
KEY_HEADER = "idempotency_key"
CONNECT_SECONDS = 10
# If a broker refuses the connection or the login, others may accept them.
REFUSED_SECONDS = 3
END_OF_PARTITION = KafkaError._PARTITION_EOF
_POLL_SECONDS = 0.5

# Names of the Java client, with those of librdkafka
_RENAMED = {
    "ssl.keystore.certificate.chain": ("ssl.certificate.pem",),
    "ssl.keystore.key": ("ssl.key.pem",),
    "ssl.truststore.certificates": ("ssl.ca.pem",),
}
_RENAMED_IF_PEM = {
    "ssl.keystore.location": ("ssl.certificate.location", "ssl.key.location"),
    "ssl.truststore.location": ("ssl.ca.location",),
}
# Properties of the Java client that have no effect here
_IGNORED = re.compile(r"(key|value)\.(de)?serializer|ssl\.(key|trust)store\.type|schema\.registry\..*|basic\.auth\..*")
_JAAS_MODULE = re.compile(r"\s*[\w.]*(?:Plain|Scram)LoginModule\s")
_JAAS_OPTION = re.compile(r'(\w+)\s*=\s*"((?:[^"\\]|\\.)*)"')
_PROPERTY_NAME = re.compile(r"[a-z][a-z0-9]*([._][a-z0-9]+)*")
_SEPARATOR = re.compile(r"(?<!\\)(?:\s*[=:]\s*|\s+)")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_CONTROL = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
# Internal details in librdkafka's messages
_NOISE = re.compile(r"^\S+/(?:bootstrap|\d+): | \(after \d+ms.*$")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options ``--bootstrap``, ``--topic`` and ``--properties``."""
    parser.add_argument(
        "--bootstrap",
        metavar="HOST:PORT",
        help=f"brokers, separated by commas (127.0.0.1:{DEFAULT_PORT}, or bootstrap.servers of the properties)",
    )
    parser.add_argument("--topic", default="transactions", help="topic (transactions)")
    parser.add_argument(
        "--properties", type=Path, metavar="FILE", help="Java-style properties of the client, such as SASL and TLS"
    )


def number(text: str) -> int:
    """Parse an option that is a positive integer."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


class BrokerErrors:
    """Receives the errors of connections to brokers, and keeps the last one that names a cause."""

    def __init__(self) -> None:
        self.last: KafkaError | None = None
        self._printed = ""

    def __call__(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self.last = error

    def print(self) -> None:
        """Print the last error unless it was printed before."""
        text = explain(self.last) if self.last else ""
        if text and text != self._printed:
            self._printed = text
            print(f"broker: {text}", file=sys.stderr)

    @property
    def refused(self) -> bool:
        """Whether the cause is not a slow connection."""
        return self.last is not None and (
            "Connection refused" in self.last.str()
            or self.last.code() in {KafkaError._AUTHENTICATION, KafkaError._RESOLVE, KafkaError._SSL}
        )


def configuration(
    arguments: argparse.Namespace, errors: BrokerErrors, defaults: Mapping[str, str], required: Mapping[str, str]
) -> dict[str, Any]:
    """Return the configuration of a client.

    Parameters
    ----------
    arguments
        Those of :func:`add_options`.
    errors
        Receives the errors of connections.
    defaults
        Properties that the file may change.
    required
        Properties that it may not change.
    """
    properties = read_properties(arguments.properties) if arguments.properties else {}
    for name, value in required.items():
        if properties.get(name, value).lower() != value:
            raise UnusableError(f"{arguments.properties} sets {name}, which this script needs to be {value}")
    return {
        "bootstrap.servers": f"127.0.0.1:{DEFAULT_PORT}",
        **defaults,
        **properties,
        **({"bootstrap.servers": arguments.bootstrap} if arguments.bootstrap else {}),
        **required,
        "error_cb": errors,
        # Errors arrive at the callback; the log would repeat them.
        "log_level": 0,
    }


@contextmanager
def configuring(arguments: argparse.Namespace) -> Iterator[None]:
    """Create a client in the block; raise :class:`UnusableError` if librdkafka refuses its configuration."""
    try:
        yield
    except (KafkaException, TypeError, ValueError) as error:
        raise UnusableError(
            f"{arguments.properties or 'the configuration'} cannot be used: {explain(error)}"
        ) from error


def read_properties(path: Path) -> dict[str, str]:
    """Return the properties of a Java-style file by the names that librdkafka uses.

    Raises
    ------
    UnusableError
        The file cannot be read, or has a line or a setting that cannot be used. The message contains no values.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnusableError(f"{path} is not valid UTF-8") from error
    except OSError as error:
        raise UnusableError(f"{path} cannot be read: {error.strerror or error}") from error
    properties: dict[str, str] = {}
    for line, entry in _entries(text):
        name, *value = map(_unescape, _SEPARATOR.split(entry, maxsplit=1))
        # The name could be part of a key or a password.
        if not _PROPERTY_NAME.fullmatch(name):
            raise UnusableError(f"{path} line {line} is not a property of the form name=value")
        properties[name] = "".join(value)
    return _translated(path, properties)


def _entries(text: str) -> list[tuple[int, str]]:
    """Return the entries with their first line numbers; a backslash at its end continues a line."""
    entries: list[tuple[int, str]] = []
    continues = False
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.lstrip()
        if not continues and (not line or line[0] in "#!"):
            continue
        if continues:
            first, start = entries.pop()
            line = start + line
        else:
            first = number
        continues = (len(line) - len(line.rstrip("\\"))) % 2 == 1
        entries.append((first, line[:-1] if continues else line))
    return entries


def _unescape(text: str) -> str:
    def character(found: re.Match[str]) -> str:
        return chr(int(found[1], 16)) if found[1] else _CONTROL.get(found[2], found[2])

    return _ESCAPE.sub(character, text)


def _translated(path: Path, properties: dict[str, str]) -> dict[str, str]:
    """Return properties of the Java client by the names that librdkafka uses."""
    translated: dict[str, str] = {}
    for name, value in properties.items():
        names: tuple[str, ...] = _RENAMED.get(name, (name,))
        if name in _RENAMED_IF_PEM and properties.get(name.replace("location", "type"), "").upper() == "PEM":
            names = _RENAMED_IF_PEM[name]
        elif name.startswith("ssl.truststore.") and name not in _RENAMED and not _IGNORED.fullmatch(name):
            raise UnusableError(
                f"{path} sets {name}, which needs Java: convert the certificates to PEM and set ssl.ca.location"
            )
        elif name == "sasl.jaas.config":
            translated |= _login(path, value)
            continue
        elif name == "ssl.endpoint.identification.algorithm" and not value:
            value = "none"  # noqa: PLW2901
        elif _IGNORED.fullmatch(name):
            continue
        translated |= dict.fromkeys(names, value)
    return translated


def _login(path: Path, jaas: str) -> dict[str, str]:
    options = dict(_JAAS_OPTION.findall(jaas))
    if not _JAAS_MODULE.match(jaas) or not {"username", "password"} <= options.keys():
        raise UnusableError(
            f"{path} sets a sasl.jaas.config without username and password of the PLAIN or SCRAM module: "
            "set the properties of librdkafka instead"
        )
    return {f"sasl.{name}": _unescape(options[name]) for name in ("username", "password")}


def explain(error: KafkaError | BaseException) -> str:
    """Return the message of an error of librdkafka without its internal details."""
    if isinstance(error, KafkaException) and error.args:
        error = error.args[0]
    text = error.str() if isinstance(error, KafkaError) else str(error)
    return shown(_NOISE.sub("", text)) or type(error).__name__


def is_purged(error: KafkaError) -> bool:
    """Return whether this command gave up on a record."""
    return error.code() in {KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT}


def is_permanent(error: KafkaError) -> bool:
    """Return whether a consumer that gets this error cannot go on."""
    return error.fatal() or error.code() in {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.INVALID_GROUP_ID,
        KafkaError._AUTHENTICATION,
    }


def partitions(
    client: Consumer | Producer, topic: str, brokers: str, errors: BrokerErrors, interrupt: Interrupt
) -> int:
    """Return the number of partitions of a topic, 0 if it does not exist.

    Raises
    ------
    UnusableError
        No broker can be reached.
    """
    start = time.monotonic()
    while True:
        interrupt.check()
        try:
            # Asking for one topic would create it.
            found = client.list_topics(timeout=_POLL_SECONDS).topics.get(topic)
        except KafkaException as error:
            client.poll(0)  # calls the callback for errors
            if time.monotonic() - start > (REFUSED_SECONDS if errors.refused else CONNECT_SECONDS):
                raise UnusableError(_unreachable(brokers, explain(errors.last or error))) from error
        else:
            return len(found.partitions) if found else 0


def _unreachable(brokers: str, reason: str) -> str:
    hint = ""
    if re.match(r"(127\.0\.0\.1|localhost)\b", brokers) and "refused" in reason:
        port = brokers.partition(",")[0].rpartition(":")[2]
        hint = f"; start one with `make broker{'' if port == str(DEFAULT_PORT) else f' KAFKA_PORT={port}'}`"
    return f"no Kafka broker can be reached at {brokers}: {reason}{hint}"
