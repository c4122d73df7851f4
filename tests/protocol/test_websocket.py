from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewared.protocol.websocket import Broken, Message, Opcode, Reader, check_opening, encode, opening_request

# RFC 6455, section 1.3
NONCE = base64.b64decode("dGhlIHNhbXBsZSBub25jZQ==")
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def unmasked(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """A frame as a server sends it."""
    size = len(payload)
    if size < 126:
        head = bytes([size])
    elif size < 65536:
        head = b"\x7e" + size.to_bytes(2, "big")
    else:
        head = b"\x7f" + size.to_bytes(8, "big")
    return bytes([(0x80 if final else 0) | opcode]) + head + payload


def test_the_key_and_its_answer_are_those_of_the_rfc() -> None:
    request = opening_request("h:80", "/api/current", NONCE, "http://h:80").decode()
    assert request.startswith("GET /api/current HTTP/1.1\r\nHost: h:80\r\n")
    assert "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" in request
    check_opening(f"HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n".encode(), NONCE)


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 404 Not Found\r\n\r\n",
        "HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
        "HTTP/1.1 101 Switching\r\n\r\n",
        f"HTTP/1.1 101 X\r\nSec-WebSocket-Accept: {ACCEPT}\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        "garbage",
    ],
)
def test_an_answer_that_does_not_open_the_connection_is_refused(head: str) -> None:
    with pytest.raises(Broken):
        check_opening(head.encode(), NONCE)


def test_a_masked_frame_is_that_of_the_rfc() -> None:
    # RFC 6455, section 5.7
    assert encode(Opcode.TEXT, b"Hello", bytes.fromhex("37fa213d")) == bytes.fromhex("818537fa213d7f9f4d5158")


@given(st.binary(max_size=70_000), st.binary(min_size=4, max_size=4))
def test_masking_twice_gives_the_payload_back(payload: bytes, mask: bytes) -> None:
    frame = encode(Opcode.BINARY, payload, mask)
    body = frame[len(frame) - len(payload) :]
    again = encode(Opcode.BINARY, body, mask)
    assert again[len(again) - len(payload) :] == payload


@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_messages_come_out_whole_however_the_bytes_are_cut(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(unmasked(1, payload) for payload in payloads)
    reader, got = Reader(1000), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        got += reader.receive(stream[:cut])
        stream = stream[cut:]
    assert got == [Message(Opcode.TEXT, payload) for payload in payloads]


def test_a_control_frame_may_stand_between_fragments() -> None:
    stream = unmasked(1, b"ab", final=False) + unmasked(9, b"p") + unmasked(0, b"cd")
    assert Reader(1000).receive(stream) == [Message(Opcode.PING, b"p"), Message(Opcode.TEXT, b"abcd")]


@pytest.mark.parametrize(
    "stream",
    [
        b"\xc1\x00",
        b"\x81\x80",
        b"\x83\x00",
        unmasked(0, b"x"),
        unmasked(1, b"x", final=False) + unmasked(1, b"x"),
        unmasked(9, b"x", final=False),
        unmasked(9, b"x" * 126),
        unmasked(1, b"x" * 1001),
        unmasked(1, b"x" * 600, final=False) + unmasked(0, b"x" * 600),
    ],
)
def test_what_breaks_the_protocol_is_refused(stream: bytes) -> None:
    with pytest.raises(Broken):
        Reader(1000).receive(stream)
