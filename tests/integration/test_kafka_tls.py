"""``events/produce.py`` and ``events/consume.py`` with the TLS settings of a properties file."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests import clients
from tests.clients import QuietHandler, assert_one_error, serving
from tests.local import broker, certificates
from tests.local.processes import listening
from tests.local.template import ROOT

PAYMENTS = ROOT / "tests" / "data" / "sparkov_slim.csv.gz"
_BLOCK_BYTES = 65_536


def copy(source: socket.socket, target: socket.socket) -> None:
    """Copy bytes until either side closes its connection."""
    with suppress(OSError):
        while block := source.recv(_BLOCK_BYTES):
            target.sendall(block)
    for connection in (source, target):
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def tls_broker(files: certificates.Certificates) -> Iterator[str]:
    """Run a broker behind a proxy that requires TLS; yield the address of the proxy."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)

    def accept(listener: socket.socket, upstream: tuple[str, int]) -> None:
        with suppress(OSError):  # closed
            while True:
                plain, _ = listener.accept()
                threading.Thread(target=serve, args=(plain, upstream), daemon=True).start()

    def serve(plain: socket.socket, upstream: tuple[str, int]) -> None:
        with (
            suppress(OSError),
            plain,
            context.wrap_socket(plain, server_side=True) as client,
            socket.create_connection(upstream) as server,
        ):
            back = threading.Thread(target=copy, args=(server, client), daemon=True)
            back.start()
            copy(client, server)
            back.join()

    with listening("127.0.0.1", 0) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with broker.running(advertised=address) as bootstrap:
            host, _, port = bootstrap.partition(":")
            threading.Thread(target=accept, args=(listener, (host, int(port))), daemon=True).start()
            yield address
            listener.shutdown(socket.SHUT_RDWR)


class Refusing(QuietHandler):
    """A service that refuses each record."""

    def get(self) -> None:
        self.respond(200, b"{}", Content_Type="application/json")

    def post(self) -> None:
        count = self.body().count(b"\n") + 1
        self.respond(200, b'{"results": [%s]}' % b", ".join([b'{"error": "no"}'] * count))


def test_properties_of_the_java_client_with_tls(tmp_path: Path) -> None:
    files = certificates.make(tmp_path)
    trusting, doubting = tmp_path / "trusting", tmp_path / "doubting"
    consumer = "".join(f"{name}={value}\n" for name, value in broker.CONSUMER_PROPERTIES.items())
    store = f"ssl.truststore.type=PEM\nssl.truststore.location={files.authority}\n"
    doubting.write_text("security.protocol=SSL\n")
    with tls_broker(files) as address, serving(Refusing) as url:
        options = ("--bootstrap", address, "--properties", trusting)
        trusting.write_text(f"security.protocol=SSL\n{store}")
        produced = clients.run("produce", PAYMENTS, "--limit", 5, "--partitions", 1, *options)
        assert (produced.returncode, produced.stderr) == (0, "")
        trusting.write_text(f"security.protocol=SSL\n{store}{consumer}")
        consumed = clients.run("consume", *options, "--url", url, "--until-end")
        assert (consumed.returncode, consumed.stderr.count(": no\n")) == (1, 5)
        refused = clients.run("produce", PAYMENTS, "--bootstrap", address, "--properties", doubting)
        assert_one_error(refused, "certificate")
