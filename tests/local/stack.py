"""``make run``: the emulator, the functions, the event source and the API together, until Ctrl-C."""

import argparse

from tests.local import account, emulator, environments, event_source
from tests.local.processes import command, listening, port_number

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


def run(port: int) -> None:
    """Serve on the port, 0 for any, until interrupted."""
    account.replace()
    with (
        # First of all, so that nothing that is started below can take the port.
        listening(HOST, port) as listener,
        emulator.running() as endpoint,
        environments.running(emulator.variables(endpoint)) as functions,
        event_source.running(emulator.client("sqs", endpoint), functions.invoke),
    ):
        from tests.local.api import serve  # noqa: PLC0415  reads the account's variables, and takes a second

        address = f"http://{HOST}:{listener.getsockname()[1]}"
        serve(listener, functions, announce=lambda: print(welcome(address), flush=True))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="The whole service on this machine.")
    parser.add_argument("--port", default="3000")
    arguments = parser.parse_args()
    with command():
        run(port_number(arguments.port))


if __name__ == "__main__":
    main()
