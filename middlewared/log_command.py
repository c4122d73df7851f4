"""`middlewared log show|verify|repair` and `middlewared state rebuild`: the log for people and scripts.

`show` and `verify` only read, and may run while the daemon does. `repair` (repair_command.py) and `state rebuild` take
the data directory's lock, which the daemon holds for as long as it runs, and refuse without it.

Exit status: 0 done and intact, 1 the log is not intact, 2 it could not be read, written or applied whole. What went
wrong is one line on stderr that names the file and the reason.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from middlewared import config, repair_command
from middlewared.kernel.errors import LogDamaged, MiddlewareError, PortFailed
from middlewared.kernel.event import Record
from middlewared.kernel.upkeep import Fault, LogCheck

POLL_S = 0.2
_BATCH = 512
_EPOCH = datetime.fromtimestamp(0, UTC)

Run = Callable[[argparse.Namespace], None]


def add_parsers(sub: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `log` and `state` to a command line whose own parser gives `--config` a default.

    The chosen function is `args.run(args) -> exit status`.
    """
    log = sub.add_parser("log", help="show the log of events, or check it").add_subparsers(required=True, metavar="")
    show = _leaf(log, "show", _show, "every event, oldest first")
    show.add_argument("--json", action="store_true", help="one JSON object a line")
    show.add_argument("--follow", action="store_true", help="go on with new events as they come, until interrupted")
    show.add_argument("--since", type=int, default=0, metavar="SEQ", help="only the events after SEQ")
    show.add_argument("--db", type=Path, metavar="PATH", help="the log to read (default: DATA_DIR/log.db)")
    verify = _leaf(log, "verify", _verify, "check every record against its hash and its neighbours; reads only")
    verify.add_argument("--json", action="store_true", help="how far it is, and at the end the verdict, as JSON lines")
    verify.add_argument("path", type=Path, nargs="?", metavar="PATH", help="the log (default: DATA_DIR/log.db)")

    about = "set a damaged log aside, so that the other controller's takes its place; the daemon must be stopped"
    repair_command.add_arguments(_leaf(log, "repair", repair_command.repair, about))

    state = sub.add_parser("state", help="the projections of the log").add_subparsers(required=True, metavar="")
    rebuild = _leaf(state, "rebuild", _rebuild, "make state.db again from the log; the daemon must be stopped")
    rebuild.add_argument("--db", type=Path, metavar="PATH", help="the log to fold (default: DATA_DIR/log.db)")
    rebuild.add_argument("--upto", type=int, metavar="SEQ", help="fold up to SEQ (default: as far as state.db was)")


def _leaf(
    sub: argparse._SubParsersAction[argparse.ArgumentParser], name: str, run: Run, description: str
) -> argparse.ArgumentParser:
    parser = sub.add_parser(name, help=description, description=description)
    parser.add_argument("--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="the boot file")
    parser.set_defaults(run=lambda args: _status(run, args))
    return parser


def _status(run: Run, args: argparse.Namespace) -> int:
    try:
        run(args)
        sys.stdout.flush()
    except LogDamaged as e:
        print(e, file=sys.stderr)
        return 1
    except MiddlewareError as e:
        print(e, file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader went away (`| head`). Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    return 0


def _log_path(given: Path | None, args: argparse.Namespace) -> Path:
    path = given if given is not None else Path(config.load(args.config).data_dir)
    return path / "log.db" if path.is_dir() else path


# --- show ---


def _show(args: argparse.Namespace) -> None:
    path = _log_path(args.db, args)
    line = _as_json if args.json else _as_text
    for record in _follow(path, args.since) if args.follow else _all(path, args.since):
        sys.stdout.buffer.write(line(record, path))
        if args.follow:
            sys.stdout.buffer.flush()


def _all(path: Path, seq: int) -> Iterator[Record]:
    from middlewared.store.reader import LogReader

    with LogReader(path, untouched=True) as log:
        while batch := log.since(seq, _BATCH):
            yield from batch
            seq = batch[-1].seq


def _follow(path: Path, seq: int) -> Iterator[Record]:
    from middlewared.store.reader import LogReader

    with LogReader(path) as log:
        while True:
            while batch := log.since(seq, _BATCH):
                yield from batch
                seq = batch[-1].seq
            time.sleep(POLL_S)
            end = log.head().seq
            if end < seq:
                print(f"{path}: everything after seq {end} was cut from the log", file=sys.stderr)
                seq = end


class _Line(msgspec.Struct, frozen=True):
    """What `--json` shows of a record. time: ISO 8601 with the offset from UTC. hash: hex."""

    seq: int
    term: int
    origin: str
    kind: str
    version: int
    actor: str
    request_id: str
    method: str
    time: str
    payload: msgspec.Raw
    hash: str


def _as_json(record: Record, path: Path) -> bytes:
    try:
        msgspec.json.decode(record.payload)
    except msgspec.DecodeError as e:
        raise LogDamaged(str(path), record.seq, f"its payload is not JSON: {e}") from None
    line = _Line(
        seq=record.seq,
        term=record.term,
        origin=record.origin,
        kind=record.kind,
        version=record.version,
        actor=record.actor,
        request_id=record.request_id,
        method=record.method,
        time=_time(record.wall_ns),
        payload=msgspec.Raw(record.payload),
        hash=record.hash.hex(),
    )
    return msgspec.json.encode(line) + b"\n"


def _as_text(record: Record, path: Path) -> bytes:
    who = f"term {record.term} {record.origin} {record.actor}"
    head = f"{record.seq:>8}  {_time(record.wall_ns)}  {who:<20}  {record.kind} v{record.version}  "
    return head.encode() + record.payload + b"\n"


def _time(wall_ns: int) -> str:
    return (_EPOCH + timedelta(microseconds=wall_ns // 1000)).astimezone().isoformat(timespec="milliseconds")


# --- verify ---


def _verify(args: argparse.Namespace) -> None:
    from middlewared.store.rebuild import check_beside
    from middlewared.store.verify import verify

    path = _log_path(args.path, args)
    if args.json:
        _verify_json(path)
        return
    end = verify(path, _progress("verified"))
    check_beside(path)
    print(f"{path}: intact, {end.seq} records, term {end.term}, head {end.hash.hex()}")


def _verify_json(path: Path) -> None:
    """The same for programs: `{"at": seq, "of": seq}` in steps, then kernel.upkeep.LogCheck. Raises as the other."""
    from middlewared.store.reader import LogReader
    from middlewared.store.rebuild import check_beside
    from middlewared.store.verify import verify

    def line(value: object) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
        sys.stdout.buffer.flush()

    reached = 0

    def progress(seq: int) -> None:
        nonlocal reached
        reached = seq
        line({"at": seq, "of": max(seq, of)})

    try:
        with LogReader(path, untouched=True) as log:
            of = log.head().seq
        end = verify(path, progress)
        check_beside(path)
    except LogDamaged as e:
        fault = Fault(file=e.where, seq=e.seq, what=e.what)
        line(LogCheck(intact=False, records=reached, term=0, hash="", fault=fault))
        raise
    line(LogCheck(intact=True, records=end.seq, term=end.term, hash=end.hash.hex()))


def _progress(done: str) -> Callable[[int], None] | None:
    if not sys.stderr.isatty():
        return None

    def show(seq: int) -> None:
        print(f"\r{done} up to seq {seq}\r", end="", file=sys.stderr, flush=True)

    return show


# --- rebuild ---


def _rebuild(args: argparse.Namespace) -> None:
    from middlewared.engine import registry
    from middlewared.store.lock import DataDirectory
    from middlewared.store.log import LogStore
    from middlewared.store.rebuild import rebuild
    from middlewared.store.rows import words

    path = _log_path(args.db, args)
    plugins = registry.load()
    nouns = list(plugins.nouns.values())
    state = path.with_name("state.db")
    with DataDirectory(path.parent):
        log = LogStore.open(path)
        try:
            made = rebuild(log, state, plugins.catalogue, nouns, args.upto, _progress("folded"))
        finally:
            log.close()
    compared = {None: "there was none to compare it with", False: "the old one was equal", True: "the old one differed"}
    print(f"{state}: made from the log up to seq {made.applied.seq}, digest {made.digest}; {compared[made.differed]}")
    if made.difference is not None:
        print(f"first difference (here: the old file): {words(made.difference)}")
    if made.blocked is not None:
        raise PortFailed(f"apply what comes after seq {made.applied.seq}", made.blocked)
