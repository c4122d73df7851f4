"""The CARP codec against frames that ucarp 1.5.2 sent, and against anything at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewared.protocol.carp_packet import SIZE, Fault, Frame, Secret, checksum, decode, encode, router_of, vhid_of

SECRET = Secret(vhid=1, key=b"secret", addresses=("192.0.2.10",))

# ucarp -v 1 -p secret -a 192.0.2.10 -b 1 -k 0, one second apart
CAPTURED = [
    "210100070001a671 3ead41d3fc2b4592 0e570de436d45a71da6b4743cdf1e6d7aba946a3",
    "21010007000186bb e0d7b0bac9b30b9d aab0b4f5879f050792d378f30349cec0ca7d5cbc",
    "2101000700014e70 25abc09aeefde15e 9f5164bd5a7ec175d92a45c603b46e874344e56f",
    "2101000700013791 0b733a9a452928ee 55d14d40926868e4b2265e657b60ce0b5f7b9b6e",
]

frames = st.builds(
    Frame,
    vhid=st.just(1),
    advbase=st.integers(0, 255),
    advskew=st.integers(0, 255),
    counter=st.integers(0, 2**64 - 1),
)


@pytest.mark.parametrize("captured", CAPTURED)
def test_a_captured_frame_of_ucarp_is_read_and_written_byte_for_byte(captured: str) -> None:
    data = bytes.fromhex(captured)
    frame = decode(data, 255, SECRET)
    assert frame == Frame(vhid=1, advbase=1, advskew=0, counter=int.from_bytes(data[8:16]))
    assert encode(frame, SECRET) == data


@given(frames, st.binary(max_size=12))
def test_what_is_encoded_is_decoded_whatever_padding_follows(frame: Frame, padding: bytes) -> None:
    assert decode(encode(frame, SECRET) + padding, 255, SECRET) == frame


@given(frames, st.integers(0, SIZE * 8 - 1))
def test_one_flipped_bit_is_always_refused(frame: Frame, bit: int) -> None:
    data = bytearray(encode(frame, SECRET))
    data[bit // 8] ^= 1 << bit % 8
    assert isinstance(decode(bytes(data), 255, SECRET), Fault)


@given(st.binary(max_size=80), st.integers(0, 255))
def test_no_bytes_at_all_make_the_decoder_raise(data: bytes, ttl: int) -> None:
    assert isinstance(decode(data, ttl, SECRET), Fault)


def altered(**bytes_at: int) -> bytes:
    """A valid frame with some bytes changed and its unkeyed checksum made right again."""
    data = bytearray(bytes.fromhex(CAPTURED[0]))
    for place, value in bytes_at.items():
        data[int(place.removeprefix("at"))] = value
    data[6:8] = b"\0\0"
    data[6:8] = checksum(bytes(data)).to_bytes(2)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "ttl", "fault"),
    [
        (altered()[:35], 255, Fault.TRUNCATED),
        (altered(), 254, Fault.TTL),
        (altered(at0=0x31), 255, Fault.VERSION),
        (altered(at0=0x22), 255, Fault.VERSION),
        (altered(at3=6), 255, Fault.VERSION),
        (altered(at1=2), 255, Fault.OTHER_VHID),
        (bytes.fromhex(CAPTURED[0])[:6] + b"\0\0" + bytes.fromhex(CAPTURED[0])[8:], 255, Fault.CHECKSUM),
        (altered(at8=0), 255, Fault.DIGEST),
        (altered(at35=0), 255, Fault.DIGEST),
    ],
)
def test_each_fault_has_its_own_name(data: bytes, ttl: int, fault: Fault) -> None:
    assert decode(data, ttl, SECRET) is fault


def test_another_password_or_address_gives_a_bad_digest() -> None:
    data = bytes.fromhex(CAPTURED[0])
    assert decode(data, 255, Secret(vhid=1, key=b"Secret", addresses=("192.0.2.10",))) is Fault.DIGEST
    assert decode(data, 255, Secret(vhid=1, key=b"secret", addresses=("192.0.2.11",))) is Fault.DIGEST


def test_advskew_is_outside_the_hmac_as_carp_defines_it() -> None:
    frame = decode(altered(at2=200), 255, SECRET)
    assert isinstance(frame, Frame)
    assert frame.advskew == 200


def test_the_order_in_which_addresses_are_named_does_not_matter() -> None:
    one = Secret(vhid=1, key=b"k", addresses=("2001:db8::1", "192.0.2.10", "10.0.0.9"))
    two = Secret(vhid=1, key=b"k", addresses=("10.0.0.9", "2001:db8::1", "192.0.2.10"))
    assert one.digest(bytes(8)) == two.digest(bytes(8))


def test_a_key_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 20 bytes"):
        Secret(vhid=1, key=b"x" * 21, addresses=("192.0.2.10",))


def test_the_interval_is_advbase_and_advskew() -> None:
    assert Frame(vhid=1, advbase=1, advskew=128, counter=0).interval_s == 1.5


@pytest.mark.parametrize(
    ("data", "router"),
    [
        (altered(), (1, "CARP")),
        (altered(at35=0), (1, "CARP")),
        (bytes.fromhex("2109640100010000 c0000201") + bytes(8), (9, "VRRP")),  # version 2, one address
        (bytes.fromhex("3109640200640000 c0000201 c0000202"), (9, "VRRP")),  # version 3, two
        (bytes.fromhex("3109640100640000") + bytes(16), (9, "VRRP")),  # version 3, one of IPv6
        (bytes.fromhex("3109640000640000 c0000201"), None),
        (bytes.fromhex("3209640100640000 c0000201"), None),
        (bytes(36), None),
        (b"\x31\x09", None),
    ],
)
def test_a_router_is_known_by_the_form_of_its_adverts_whatever_its_key(
    data: bytes, router: tuple[int, str] | None
) -> None:
    assert router_of(data, 255) == router
    assert router_of(data, 254) is None


def test_the_vhid_of_a_short_frame_is_not_known() -> None:
    assert vhid_of(b"\x21\x01") is None
    assert vhid_of(bytes.fromhex(CAPTURED[0])) == 1
