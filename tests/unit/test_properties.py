"""Properties files of the Java client, as ``events/kafka.py`` reads them."""

from pathlib import Path

import pytest

from events.command import UnusableError
from events.kafka import read_properties

LOGIN = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="ann" password="p\\"=#w";'


@pytest.mark.parametrize(
    ("text", "properties"),
    [
        ("", {}),
        ("# a comment\n! another\n\n  a.b = c d \n", {"a.b": "c d "}),
        ("a=b=c\nb:c\nc d\ne\nf =\n", {"a": "b=c", "b": "c", "c": "d", "e": "", "f": ""}),
        ("a=one\\\n   two\nb=c:\\\\\\\\d\n", {"a": "onetwo", "b": "c:\\\\d"}),
        ("a=\\u0142\\t\\=\\#", {"a": "ł\t=#"}),
        ("\ufeffa=1\r\na=2\r\n", {"a": "2"}),
        (f"sasl.jaas.config={LOGIN.replace(chr(92), chr(92) * 2)}", {"sasl.username": "ann", "sasl.password": 'p"=#w'}),
        (
            (
                "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \\\n"
                '  username="ann" \\\n  password="secret";'
            ),
            {"sasl.username": "ann", "sasl.password": "secret"},
        ),
        (
            "ssl.truststore.type=PEM\nssl.truststore.location=/ca.pem\nssl.keystore.type=pem\nssl.keystore.location=/me.pem",
            {
                "ssl.ca.location": "/ca.pem",
                "ssl.certificate.location": "/me.pem",
                "ssl.key.location": "/me.pem",
            },
        ),
        (
            "ssl.keystore.location=/me.p12\nssl.keystore.password=x",
            {"ssl.keystore.location": "/me.p12", "ssl.keystore.password": "x"},
        ),
        ("ssl.endpoint.identification.algorithm=", {"ssl.endpoint.identification.algorithm": "none"}),
        ("key.serializer=a.B\nvalue.deserializer=a.B\nschema.registry.url=http://x\nacks=all", {"acks": "all"}),
    ],
)
def test_properties(tmp_path: Path, text: str, properties: dict[str, str]) -> None:
    file = tmp_path / "client.properties"
    file.write_text(text, encoding="utf-8", newline="")
    assert read_properties(file) == properties


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a=b\n\n-----BEGIN KEY-----\n", "line 3 is not a property of the form name=value"),
        (b"ssl.truststore.location=/ca.jks\nssl.truststore.password=secret", "convert the certificates to PEM"),
        (b"sasl.jaas.config=com.example.OtherModule required secret=1;", "without username and password"),
        (b'sasl.jaas.config=a.PlainLoginModule required username="secret";', "without username and password"),
        (b"a=\xff", "is not valid UTF-8"),
    ],
)
def test_unusable_file_is_one_sentence_without_secrets(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "client.properties"
    file.write_bytes(content)
    with pytest.raises(UnusableError, match=message) as raised:
        read_properties(file)
    assert str(raised.value).startswith(str(file))
    assert "secret" not in str(raised.value)
    assert "BEGIN" not in str(raised.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match=r"missing cannot be read: No such file or directory"):
        read_properties(tmp_path / "missing")
