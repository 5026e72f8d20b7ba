"""MiniStack, an emulator of AWS, in its own process, with the tables, queues and topics of the template.

``make emulator`` runs it for the containers of ``sam local``, which reach it over Docker's bridge.
"""

import argparse
import ipaddress
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import boto3
from botocore.config import Config

from tests.local import account, processes, template
from tests.local.processes import StartError

MINISTACK_PYTHON = template.ROOT / ".tools" / "ministack" / "bin" / "python"
_SERVICES = "dynamodb,dynamodbstreams,sqs,sns"
# Properties of AWS::DynamoDB::Table that are also parameters of CreateTable
_CREATE_TABLE_PARAMETERS = ("AttributeDefinitions", "KeySchema", "BillingMode")


def client(service: str, endpoint: str) -> Any:
    """Return a boto3 client for a service of the emulator; :func:`.account.replace` sets its credentials."""
    return boto3.client(  # type: ignore[call-overload]  # the stubs have an overload per service
        service,
        endpoint_url=endpoint,
        config=Config(proxies={}, connect_timeout=2, read_timeout=10),
    )


def variables(dynamodb: str, sqs: str | None = None, sns: str | None = None) -> dict[str, str]:
    """Return the environment variables that point a function to these endpoints; the default is that of DynamoDB."""
    return {
        "AWS_ENDPOINT_URL_DYNAMODB": dynamodb,
        "AWS_ENDPOINT_URL_SQS": sqs or dynamodb,
        "AWS_ENDPOINT_URL_SNS": sns or dynamodb,
    }


def create_tables(dynamodb: Any) -> None:
    """Create the tables of the template, each named by its logical id, as ``sam local`` resolves ``!Ref``."""
    for name, properties in template.stack().properties_of("AWS::DynamoDB::Table").items():
        parameters = {key: properties[key] for key in _CREATE_TABLE_PARAMETERS}
        if stream := properties.get("StreamSpecification"):
            parameters["StreamSpecification"] = {"StreamEnabled": True, **stream}
        dynamodb.create_table(TableName=name, **parameters)
        if expiry := properties.get("TimeToLiveSpecification"):
            dynamodb.update_time_to_live(TableName=name, TimeToLiveSpecification=expiry)


def create_queues(sqs: Any) -> None:
    """Create the queues of the template, each named by its logical id, dead-letter queues first."""
    queues = template.stack().properties_of("AWS::SQS::Queue")
    for name, properties in sorted(queues.items(), key=lambda queue: "RedrivePolicy" in queue[1]):
        attributes = {attribute: json.dumps(value) for attribute, value in properties.items()}
        if policy := properties.get("RedrivePolicy"):
            # The ARN contains the account id, which depends on the credentials.
            dead_letter_queue = policy["deadLetterTargetArn"].rpartition(":")[2]
            arn = sqs.get_queue_attributes(QueueUrl=dead_letter_queue, AttributeNames=["QueueArn"])
            attributes["RedrivePolicy"] = json.dumps(policy | {"deadLetterTargetArn": arn["Attributes"]["QueueArn"]})
        sqs.create_queue(QueueName=name, Attributes=attributes)


def create_topics(sns: Any) -> None:
    """Create the topics of the template, each named by its logical id."""
    for name in template.stack().of_type("AWS::SNS::Topic"):
        sns.create_topic(Name=name)


@contextmanager
def running(host: str = "127.0.0.1", port: int = 0, **options: Any) -> Iterator[str]:
    """Run the emulator with the tables, queues and topics; the options are those of :func:`started`."""
    with started(host, port, SERVICES=_SERVICES, **options) as endpoint:
        create_tables(client("dynamodb", endpoint))
        create_queues(client("sqs", endpoint))
        create_topics(client("sns", endpoint))
        yield endpoint


@contextmanager
def started(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    log: IO[bytes] | None = None,
    on_exit: Callable[[str], None] | None = None,
    **settings: str,
) -> Iterator[str]:
    """Run the emulator without tables, queues and topics.

    Parameters
    ----------
    host, port
        Address to listen on; port 0 is any free port.
    log
        File for its output.
    on_exit
        Called from another thread with an error message if the emulator ends by itself.
    settings
        Environment variables of MiniStack. With ``USE_SSL``, clients need ``AWS_CA_BUNDLE``.

    Yields
    ------
    str
        Its endpoint.

    Raises
    ------
    StartError
        It did not start, or the port is in use.
    """
    if not MINISTACK_PYTHON.exists():
        raise StartError("the emulator is not installed; run 'make install'")
    port = port or processes.free_port(host)
    # MiniStack only logs that its port is in use.
    processes.listening(host, port).close()
    process = subprocess.Popen(
        [MINISTACK_PYTHON, "-m", "ministack"],
        env={
            **os.environ,
            "BIND_HOST": host,
            "GATEWAY_PORT": str(port),
            "IOT_MTLS_ENABLED": "0",
            "LOG_LEVEL": "WARNING",
            **settings,
        },
        stdin=subprocess.DEVNULL,
        stdout=log or subprocess.DEVNULL,
        stderr=log or subprocess.DEVNULL,
        preexec_fn=processes.end_with_parent,  # noqa: PLW1509  no thread runs yet
        start_new_session=True,
    )
    ending = threading.Event()
    try:
        processes.wait_until_listening("the emulator", process, host, port)
        if on_exit:
            lost = "and its data is lost; run the command again"
            processes.watch(process, ending, lambda how: on_exit(f"the emulator of AWS {how} {lost}"))
        yield f"{'https' if settings.get('USE_SSL') else 'http'}://{host}:{port}"
    finally:
        ending.set()
        processes.end(process)


def bridge_address() -> str:
    """Return the address at which containers, and no other machine, reach this one.

    Raises
    ------
    StartError
        There is no Docker engine.
    """
    try:
        inspected = subprocess.run(
            ["docker", "network", "inspect", "bridge"], check=True, capture_output=True, timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError):
        raise StartError("no Docker engine responds; 'make run' works without one") from None
    network = json.loads(inspected)[0]["IPAM"]["Config"][0]
    # Docker names the gateway, the first address of the network, only once there is a container.
    address = network.get("Gateway") or str(next(ipaddress.ip_network(network["Subnet"]).hosts()))
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            # Docker Desktop: the bridge is in its virtual machine, and containers reach the loopback of this machine.
            return "127.0.0.1"
    return address


def main() -> None:
    """Run until Ctrl-C."""
    account.replace()
    parser = argparse.ArgumentParser(description="DynamoDB, SQS and SNS for the containers of `sam local`.")
    parser.add_argument("--port", default="8000", help="must match tests/local/containers.json")
    arguments = parser.parse_args()
    with (
        processes.command(),
        running(bridge_address(), processes.port_number(arguments.port), on_exit=processes.fail) as endpoint,
    ):
        of_type = template.stack().of_type
        names = ", ".join(
            name for kind in ("AWS::DynamoDB::Table", "AWS::SQS::Queue", "AWS::SNS::Topic") for name in of_type(kind)
        )
        print(f"DynamoDB, SQS and SNS with {names} at {endpoint}; press Ctrl-C to stop", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
