"""``make run``: the emulator, the functions, the event source mappings, the alerts and the API, until Ctrl-C."""

import argparse

from tests.local import account, alerts, emulator, environments, event_sources, template
from tests.local.console import LOGS, Console
from tests.local.processes import StartError, command, fail, listening, port_number

HOST = "127.0.0.1"


def welcome(address: str) -> str:
    """Return the first message: the address, three requests to try, and the page for the browser."""
    return f"""
Risk scoring at {address}, with all data in memory; press Ctrl-C to stop. Edits apply from the next request;
only those to template.yaml require a restart. Try:

  curl {address}/health
  curl {address}/score -H 'content-type: application/json' \\
       -d '{{"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 3}}'
  curl {address}/stats

In the browser: {address}/docs
"""


def run(port: int, logs: str) -> None:
    """Serve on a port, 0 for any, until interrupted; ``logs`` is one of :data:`.console.LOGS`."""
    account.replace()
    console = Console(logs)
    with (
        # First, so that nothing started below takes the port.
        listening(HOST, port) as listener,
        emulator.running(on_exit=fail) as endpoint,
        environments.running(emulator.variables(endpoint), console=console) as functions,
        event_sources.running(endpoint, functions.invoke),
        alerts.receiving(endpoint, console.alert),
    ):
        from tests.local.api import serve  # noqa: PLC0415  takes a second, and reads the AWS variables

        address = f"http://{HOST}:{listener.getsockname()[1]}"
        serve(listener, functions, console, announce=lambda: print(welcome(address), flush=True))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Run the whole service on this machine.")
    parser.add_argument("--port", default="3000")
    parser.add_argument("--logs", default="text", help="text for people, json for programs")
    arguments = parser.parse_args()
    with command():
        if arguments.logs not in LOGS:
            raise StartError(f"LOGS must be {' or '.join(LOGS)}, not {arguments.logs!r}")
        template.scorer()  # raises an error before anything starts
        run(port_number(arguments.port), arguments.logs)


if __name__ == "__main__":
    main()
