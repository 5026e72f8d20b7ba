"""``make run``: the embedded DynamoDB, the tables and the API together, until Ctrl-C."""

import argparse
import os

from tests.local import dynamodb
from tests.local.processes import command, require_free_port

HOST = "127.0.0.1"

# Before SAM CLI is imported: no telemetry, and neither files nor credentials of the developer's AWS account.
os.environ.update(
    SAM_CLI_TELEMETRY="0",
    AWS_CONFIG_FILE=os.devnull,
    AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    AWS_DEFAULT_REGION=dynamodb.REGION,
    **dynamodb.CREDENTIALS,
)


def welcome(address: str) -> str:
    """What the newcomer reads: the address and three requests to try."""
    return f"""
Risk scoring at {address}, counters and decisions in memory until Ctrl-C. Edits are picked up with the next
request; only template.yaml asks for a restart. Try:

  curl {address}/health
  curl {address}/score -H 'content-type: application/json' \\
       -d '{{"tx_id": "TX003", "amount": 4500.0, "category": "electronics", "hour": 3}}'
  curl {address}/stats
"""


def run(port: int) -> None:
    """Serve on the port until interrupted."""
    require_free_port(HOST, port)
    with dynamodb.running() as endpoint:
        # SAM CLI gives functions the variables that the template declares, with the values of this process.
        os.environ["AWS_ENDPOINT_URL_DYNAMODB"] = endpoint
        from tests.local.api import serve  # noqa: PLC0415  reads the variables above, and takes a second

        serve(HOST, port, announce=lambda: print(welcome(f"http://{HOST}:{port}"), flush=True))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="The whole service on this machine.")
    parser.add_argument("--port", type=int, default=3000)
    arguments = parser.parse_args()
    with command():
        run(arguments.port)


if __name__ == "__main__":
    main()
