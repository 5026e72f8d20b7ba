"""librdkafka's mock broker, which can respond with errors."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import confluent_kafka
from confluent_kafka import Producer

# Numbers of requests in the Kafka protocol
PRODUCE = 0
OFFSET_COMMIT = 8


class MockBroker:
    """A broker with topics; its functions are not part of the Python client."""

    def __init__(self, librdkafka: Any, cluster: int, bootstrap: str) -> None:
        self._librdkafka = librdkafka
        self._cluster = ctypes.c_void_p(cluster)
        self.bootstrap = bootstrap

    def create_topic(self, name: str, partitions: int = 1) -> None:
        assert self._librdkafka.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1) == 0

    def fail(self, request: int, *errors: int) -> None:
        """Respond to the next requests of this kind with these errors."""
        codes = (ctypes.c_int * len(errors))(*errors)
        count = ctypes.c_size_t(len(errors))
        self._librdkafka.rd_kafka_mock_push_request_errors_array(self._cluster, ctypes.c_int16(request), count, codes)


@contextmanager
def running() -> Iterator[MockBroker]:
    """Run a mock broker in this process."""
    (library,) = Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka*.so*")
    librdkafka = ctypes.CDLL(str(library))
    librdkafka.rd_kafka_handle_mock_cluster.restype = ctypes.c_void_p
    producer = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    (broker,) = producer.list_topics(timeout=30).brokers.values()
    # The handle of librdkafka follows the header of the Python object.
    handle = ctypes.c_void_p.from_address(id(producer) + object.__basicsize__)
    yield MockBroker(librdkafka, librdkafka.rd_kafka_handle_mock_cluster(handle), f"127.0.0.1:{broker.port}")
    producer.flush(0)  # keeps it until here
