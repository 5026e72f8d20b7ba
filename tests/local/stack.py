"""``make run``: the emulator, the functions, the event source and the API together, until Ctrl-C."""

import argparse

from tests.local import account, emulator, environments, event_source
from tests.local.console import LOGS, Console
from tests.local.processes import StartError, command, fail, listening, port_number

HOST = "127.0.0.1"


def welcome(address: str) -> str:
    """What the newcomer reads: the address, three requests to try, and where to try them in a browser."""
    return f"""
Risk scoring at {address}, counters and decisions in memory until Ctrl-C. Edits are picked up with the next
request; only template.yaml asks for a restart. Try:

  curl {address}/health
  curl {address}/score -H 'content-type: application/json' \\
       -d '{{"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 3}}'
  curl {address}/stats

In the browser: {address}/docs
"""


def run(port: int, logs: str) -> None:
    """Serve on the port, 0 for any, until interrupted, and log in one of the formats of :data:`.console.LOGS`."""
    account.replace()
    console = Console(logs)
    with (
        # First of all, so that nothing that is started below can take the port.
        listening(HOST, port) as listener,
        emulator.running(ended=fail) as endpoint,
        environments.running(emulator.variables(endpoint), console=console) as functions,
        event_source.running(emulator.client("sqs", endpoint), functions.invoke),
    ):
        from tests.local.api import serve  # noqa: PLC0415  reads the account's variables, and takes a second

        address = f"http://{HOST}:{listener.getsockname()[1]}"
        serve(listener, functions, console, announce=lambda: print(welcome(address), flush=True))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="The whole service on this machine.")
    parser.add_argument("--port", default="3000")
    parser.add_argument("--logs", default="text", help="text for people, json for programs")
    arguments = parser.parse_args()
    with command():
        if arguments.logs not in LOGS:
            raise StartError(f"LOGS must be {' or '.join(LOGS)}, not {arguments.logs!r}")
        run(port_number(arguments.port), arguments.logs)


if __name__ == "__main__":
    main()
