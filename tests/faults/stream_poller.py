"""The stream function behind a poller, in a process of its own that a test can kill.

Every tenth batch is delivered twice. The journal gets two JSON lines for each delivery, before and after the
function is invoked: the offsets by partition, and the result, which is null before.
"""

import itertools
import json
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

from tests.local import account, environments
from tests.local.event_sources import kafka

_DELIVERIES_PER_REPEAT = 10


class Configuration(NamedTuple):
    """The arguments of the process.

    Attributes
    ----------
    mapping
        Properties of the event source mapping.
    variables
        Environment variables of the function.
    layer, log, journal
        Folder of the layer, file for the log of the function, and file for the journal.
    """

    mapping: dict[str, Any]
    variables: dict[str, str]
    layer: str
    log: str
    journal: str


def main() -> None:
    """Poll until killed."""
    account.replace()
    configuration = Configuration(*json.loads(sys.argv[1]))
    count = itertools.count(1)
    with (
        Path(configuration.log).open("ab") as log,
        Path(configuration.journal).open("ab", buffering=0) as journal,
        environments.running(configuration.variables, 1, log.fileno(), layer=Path(configuration.layer)) as functions,
    ):

        def write(event: str, result: str | None) -> None:
            records = json.loads(event)["records"]
            offsets = {name: [one["offset"] for one in of] for name, of in records.items()}
            line = json.dumps([offsets, None if result is None else json.loads(result)])
            # One system call, so that a kill cannot leave half a line.
            journal.write(line.encode() + b"\n")

        def invoke(name: str, event: str) -> str:
            for _ in range(1 if next(count) % _DELIVERIES_PER_REPEAT else 2):
                write(event, None)
                result = functions.invoke(name, event)
                write(event, result)
            return result

        poller = kafka.Poller(invoke, configuration.mapping, threading.Event())
        while True:
            poller.poll()


if __name__ == "__main__":
    main()
