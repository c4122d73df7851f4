from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewared.shell import stream


def reader(data: bytes) -> asyncio.StreamReader:
    made = asyncio.StreamReader()
    made.feed_data(data)
    made.feed_eof()
    return made


async def test_a_frame_is_its_length_in_four_bytes_and_its_body() -> None:
    assert stream.frame(b"abc") == b"\0\0\0\x03abc"
    both = reader(stream.frame(b"abc") + stream.frame(b""))
    assert [await stream.read_frame(both, 10), await stream.read_frame(both, 10)] == [b"abc", b""]


async def test_a_length_beyond_the_limit_is_refused_before_its_body_is_read() -> None:
    assert await stream.read_frame(reader(stream.frame(b"x" * 10)), 10) == b"x" * 10
    with pytest.raises(stream.FrameTooLong, match="a frame of 4294967295 bytes, at most 10 are allowed"):
        await stream.read_frame(reader(b"\xff\xff\xff\xff"), 10)


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\0\0\0\x03ab"])
async def test_a_stream_that_ends_within_a_frame_is_told_apart_from_a_frame(data: bytes) -> None:
    with pytest.raises(asyncio.IncompleteReadError):
        await stream.read_frame(reader(data), 10)


def test_a_connection_notices_the_death_of_its_other_end() -> None:
    with socket.socket() as connection:
        stream.notice_death(connection)
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        assert [connection.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [1, 1, 3, 3000]
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


@given(bodies=st.lists(st.binary(max_size=10), max_size=8), cuts=st.lists(st.integers(0, 120)))
def test_frames_are_whole_however_the_stream_is_cut(bodies: list[bytes], cuts: list[int]) -> None:
    data = b"".join(stream.frame(body) for body in bodies)
    ends = [*sorted(cuts), len(data)]
    unread = stream.Unread(10)
    taken = [body for begin, end in zip([0, *ends], ends, strict=False) for body in unread.take(data[begin:end])]
    assert taken == bodies


def test_a_length_beyond_the_limit_is_refused_after_the_frames_before_it() -> None:
    taken = stream.Unread(10).take(stream.frame(b"abc") + stream.frame(b"x" * 11))
    assert next(taken) == b"abc"
    with pytest.raises(stream.FrameTooLong, match="11 bytes, at most 10"):
        next(taken)
