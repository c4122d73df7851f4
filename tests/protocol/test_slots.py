"""The slot area: what a sector says whatever it holds, and which record a disk gives after writes that were cut off."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from middlewared.kernel.facts import PairRecord
from middlewared.protocol import slots
from middlewared.protocol.slots import SECTOR, Bad, Beat, Blank, Foreign, Seal, Written, pack, unpack

OURS = Seal(cluster_id="c0ffee", key=b"k" * 32)
FOREIGN = Seal(cluster_id="decaf", key=b"f" * 32)
BLANK = bytes(SECTOR)


def a_record(serial: int, term: int = 4) -> PairRecord:
    return PairRecord(
        term=term, owner="A", in_sync=("A", "B"), committed_seq=serial * 10, committed_hash=b"\7" * 32, serial=serial
    )


def torn(before: bytes, after: bytes, at: int) -> bytes:
    """What a disk holds when the power goes in the middle of a write."""
    return after[:at] + before[at:]


class TestASector:
    def test_it_says_what_was_written(self) -> None:
        assert unpack("record", pack("record", 7, b"payload", OURS), OURS) == Written(7, b"payload")
        assert len(pack("beat", 7, b"", OURS)) == SECTOR

    def test_blank_is_not_absent(self) -> None:
        assert unpack("record", BLANK, OURS) == Blank()

    def test_of_another_cluster_it_is_foreign_and_without_the_key_it_is_absent(self) -> None:
        assert unpack("record", pack("record", 7, b"payload", FOREIGN), OURS) == Foreign()
        imposter = pack("record", 7, b"payload", Seal(cluster_id=OURS.cluster_id, key=FOREIGN.key))
        assert unpack("record", imposter, OURS) == Bad("it was made without the key of this cluster")

    def test_a_heartbeat_is_no_record(self) -> None:
        assert unpack("record", pack("beat", 7, b"payload", OURS), OURS) == Bad("it is another kind of slot")

    def test_somebody_elses_data_is_no_slot(self) -> None:
        assert unpack("record", b"EFI PART".ljust(SECTOR, b"\1"), OURS) == Bad("it is no slot")

    @given(st.binary(max_size=2 * SECTOR))
    def test_it_is_total(self, sector: bytes) -> None:
        assert isinstance(unpack("record", sector, OURS), Blank | Bad)
        assert slots.read_beat(sector, OURS) is None

    @given(at=st.integers(0, SECTOR - 1), bit=st.integers(0, 7))
    def test_one_bit_makes_it_absent(self, at: int, bit: int) -> None:
        sector = bytearray(pack("record", 7, b"payload", OURS))
        sector[at] ^= 1 << bit
        assert isinstance(unpack("record", bytes(sector), OURS), Bad)

    @given(at=st.integers(1, SECTOR - 1))
    def test_a_torn_one_is_absent_or_one_of_the_two(self, at: int) -> None:
        before, after = pack("record", 7, b"before", OURS), pack("record", 9, b"after", OURS)
        found = unpack("record", torn(before, after, at), OURS)
        assert isinstance(found, Bad) or found in (Written(7, b"before"), Written(9, b"after"))


class TestTheRecord:
    def test_none_was_ever_written_on_a_blank_disk_or_on_one_of_another_pair(self) -> None:
        for sectors in ((BLANK, BLANK), (pack("record", 1, b"x", FOREIGN), BLANK)):
            found = slots.read_records(sectors, OURS)
            assert found.record is None
            assert not found.unreadable

    def test_both_copies_absent_is_not_none(self) -> None:
        found = slots.read_records((torn(BLANK, pack("record", 1, b"x", OURS), 100), BLANK), OURS)
        assert found.record is None
        assert found.unreadable

    def test_a_payload_that_is_no_record_is_absent_and_the_other_copy_counts(self) -> None:
        good = slots.write_record(a_record(1), slots.read_records((BLANK, BLANK), OURS), OURS)[1]
        found = slots.read_records((good, pack("record", 9, b"{}", OURS)), OURS)
        assert found.record == a_record(1)
        assert found.bad

    def test_the_beats_of_the_two_do_not_meet(self) -> None:
        at, sector = slots.write_beat("B", Beat(term=4, count=77), OURS)
        assert at == slots.BEATS["B"] != slots.BEATS["A"]
        assert slots.read_beat(sector, OURS) == Beat(term=4, count=77)


class Disk(RuleBasedStateMachine):
    """One disk under writes that succeed and writes that are cut off: no record before the last one is given."""

    def __init__(self) -> None:
        super().__init__()
        self.sectors = [BLANK, BLANK]
        self.last: PairRecord | None = None
        self.cut_off: list[PairRecord] = []
        self.serial = 0

    def _write(self) -> tuple[PairRecord, int, bytes]:
        self.serial += 1
        record = a_record(self.serial)
        found = slots.read_records((self.sectors[0], self.sectors[1]), OURS)
        return record, *slots.write_record(record, found, OURS)

    @rule()
    def write(self) -> None:
        self.last, at, sector = self._write()
        self.sectors[at] = sector
        self.cut_off = []

    @rule(at_byte=st.integers(0, SECTOR))
    def cut_off_in_a_write(self, at_byte: int) -> None:
        record, at, sector = self._write()
        self.cut_off.append(record)
        self.sectors[at] = torn(self.sectors[at], sector, at_byte)

    @invariant()
    def gives_the_last_one_or_the_one_that_was_cut_off(self) -> None:
        found = slots.read_records((self.sectors[0], self.sectors[1]), OURS)
        assert found.record in (self.last, *self.cut_off)

    @invariant()
    def the_next_write_is_the_later_one(self) -> None:
        found = slots.read_records((self.sectors[0], self.sectors[1]), OURS)
        record = a_record(self.serial + 1000)
        at, sector = slots.write_record(record, found, OURS)
        after = [sector if number == at else old for number, old in enumerate(self.sectors)]
        assert slots.read_records((after[0], after[1]), OURS).record == record


def test_a_disk_under_power_cuts_gives_the_last_record_or_a_later_one() -> None:
    run_state_machine_as_test(Disk, settings=settings(max_examples=50, stateful_step_count=20, deadline=None))


def test_of_three_disks_with_one_torn_and_one_stale_the_latest_is_given() -> None:
    """What fenced does with the answers: the latest by (term, serial) of a majority."""

    def disk(*records: PairRecord) -> tuple[bytes, bytes]:
        sectors: list[bytes] = [BLANK, BLANK]
        for record in records:
            at, sector = slots.write_record(record, slots.read_records((sectors[0], sectors[1]), OURS), OURS)
            sectors[at] = sector
        return sectors[0], sectors[1]

    good = disk(a_record(1), a_record(2), a_record(3))
    stale = disk(a_record(1))
    last, before = disk(a_record(1), a_record(2), a_record(3))
    half = (torn(BLANK, last, 2000), before)
    given_: list[Any] = [slots.read_records(sectors, OURS).record for sectors in (good, stale, half)]
    assert [record.serial for record in given_] == [3, 1, 2]
    assert max(given_, key=lambda record: (record.term, record.serial)).serial == 3


def test_every_record_that_fits_the_type_fits_a_sector() -> None:
    largest = a_record(2**63, term=2**63)
    assert len(msgspec.json.encode(largest)) < slots.MAX_PAYLOAD
