"""The embedded DynamoDB and SQS: MiniStack in a process of its own, with the tables and queues of the template.

As a command (``make emulator``) it stands beside ``sam local``, whose containers reach it over Docker's bridge.
"""

import argparse
import ipaddress
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import boto3
from botocore.config import Config

from tests.local import account, template
from tests.local.processes import StartError, command, end, end_with_parent, fail, free_port, listening, port_number

MINISTACK_PYTHON = template.ROOT / ".tools" / "ministack" / "bin" / "python"
_START_SECONDS = 30
# Properties of a table that CreateTable takes under the same names
_CREATE_TABLE_NAMES = ("AttributeDefinitions", "KeySchema", "BillingMode")


def client(service: str, endpoint: str) -> Any:
    """A boto3 client for a service of the emulator, with the variables of :func:`.account.replace`."""
    return boto3.client(  # type: ignore[call-overload]  # the stubs have an overload per service
        service,
        endpoint_url=endpoint,
        config=Config(proxies={}, connect_timeout=2, read_timeout=10),
    )


def variables(dynamodb: str, sqs: str | None = None) -> dict[str, str]:
    """Environment variables that lead a function to these endpoints; both services have the same one by default."""
    return {"AWS_ENDPOINT_URL_DYNAMODB": dynamodb, "AWS_ENDPOINT_URL_SQS": sqs or dynamodb}


def create_tables(dynamodb: Any) -> None:
    """Create the tables of the template, each named by its logical id, as ``sam local`` resolves ``!Ref``."""
    for name, properties in template.stack().properties_of("AWS::DynamoDB::Table").items():
        dynamodb.create_table(TableName=name, **{key: properties[key] for key in _CREATE_TABLE_NAMES})
        if expiry := properties.get("TimeToLiveSpecification"):
            dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=expiry)


def create_queues(sqs: Any) -> None:
    """Create the queues of the template, each named by its logical id, dead-letter queues first."""
    queues = template.stack().properties_of("AWS::SQS::Queue")
    for name, properties in sorted(queues.items(), key=lambda queue: "RedrivePolicy" in queue[1]):
        attributes = {attribute: json.dumps(value) for attribute, value in properties.items()}
        if "RedrivePolicy" in properties:
            # Its ARN depends on the account of the client.
            dead_letter_queue = properties["RedrivePolicy"]["deadLetterTargetArn"].rpartition(":")[2]
            arn = sqs.get_queue_attributes(QueueUrl=dead_letter_queue, AttributeNames=["QueueArn"])
            attributes["RedrivePolicy"] = json.dumps(
                properties["RedrivePolicy"] | {"deadLetterTargetArn": arn["Attributes"]["QueueArn"]}
            )
        sqs.create_queue(QueueName=name, Attributes=attributes)


@contextmanager
def running(
    host: str = "127.0.0.1", port: int = 0, *, ended: Callable[[str], None] | None = None, **settings: str
) -> Iterator[str]:
    """Run the emulator with the tables and queues, and end it on the way out.

    Parameters
    ----------
    host
        Interface to listen on.
    port
        0 takes a free one.
    ended
        Called with a sentence, in a thread of its own, if the emulator ends by itself.
    settings
        Environment variables of MiniStack, as those for TLS; a client then needs AWS_CA_BUNDLE.

    Yields
    ------
    str
        Its endpoint.

    Raises
    ------
    StartError
        It does not answer, or the port is in use.
    """
    with started(host, port, None, ended=ended, SERVICES="dynamodb,sqs", **settings) as endpoint:
        create_tables(client("dynamodb", endpoint))
        create_queues(client("sqs", endpoint))
        yield endpoint


@contextmanager
def started(
    host: str = "127.0.0.1",
    port: int = 0,
    log: IO[bytes] | None = None,
    *,
    ended: Callable[[str], None] | None = None,
    **settings: str,
) -> Iterator[str]:
    """Run the emulator as it is, and end it on the way out.

    Parameters
    ----------
    host, port, ended
        As in :func:`running`.
    log
        File for what it prints.
    settings
        Environment variables of MiniStack.

    Yields
    ------
    str
        Its endpoint.

    Raises
    ------
    StartError
        It does not answer, or the port is in use.
    """
    if not MINISTACK_PYTHON.exists():
        raise StartError("the emulator is not installed; run 'make install'")
    port = port or free_port(host)
    # Found out here, since MiniStack would tell it only in its log.
    listening(host, port).close()
    environment = {
        **os.environ,
        "BIND_HOST": host,
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",
        "LOG_LEVEL": "WARNING",
        **settings,
    }
    process = subprocess.Popen(
        [MINISTACK_PYTHON, "-m", "ministack"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log or subprocess.DEVNULL,
        stderr=log or subprocess.DEVNULL,
        preexec_fn=end_with_parent,  # noqa: PLW1509  started before any thread
        start_new_session=True,
    )
    ending = threading.Event()
    try:
        _wait(process, host, port)
        if ended:
            threading.Thread(target=_watch, args=(process, ending, ended), daemon=True).start()
        yield f"{'https' if settings.get('USE_SSL') else 'http'}://{host}:{port}"
    finally:
        ending.set()
        end(process)


def bridge_address() -> str:
    """The address under which containers reach this machine, and nobody outside it does.

    Raises
    ------
    StartError
        No Docker engine answers.
    """
    try:
        inspected = subprocess.run(
            ["docker", "network", "inspect", "bridge"], check=True, capture_output=True, timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError):
        raise StartError("no Docker engine answers; 'make run' needs none") from None
    network = json.loads(inspected)[0]["IPAM"]["Config"][0]
    # Docker names the gateway only from the first container on; it is the first address of the network.
    address = network.get("Gateway") or str(next(ipaddress.ip_network(network["Subnet"]).hosts()))
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            # Docker Desktop: the bridge is inside its virtual machine, and containers reach this machine's loopback.
            return "127.0.0.1"
    return address


def _wait(process: "subprocess.Popen[bytes]", host: str, port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StartError(f"the emulator ended at its start with exit code {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.05)
    raise StartError(f"the emulator did not answer on {host}:{port} within {_START_SECONDS} s")


def _watch(process: "subprocess.Popen[bytes]", ending: threading.Event, ended: Callable[[str], None]) -> None:
    code = process.wait()
    if not ending.is_set():
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        ended(f"the emulator of DynamoDB and SQS {how} and its data is lost; run the command again")


def main() -> None:
    """Run until Ctrl-C."""
    account.replace()
    parser = argparse.ArgumentParser(description="The embedded DynamoDB and SQS for the containers of `sam local`.")
    parser.add_argument("--port", default="8000", help="the one in tests/local/containers.json")
    arguments = parser.parse_args()
    with command(), running(bridge_address(), port_number(arguments.port), ended=fail) as endpoint:
        of_type = template.stack().of_type
        names = " and ".join([*of_type("AWS::DynamoDB::Table"), *of_type("AWS::SQS::Queue")])
        print(f"DynamoDB and SQS with {names} at {endpoint}, Ctrl-C ends it", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
