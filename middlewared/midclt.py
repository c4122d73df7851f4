"""midclt: one call of the API from the command line.

Exit status: 0 the call was carried out, 1 it was not (the reason is on stderr), 2 the command line is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import sys
import uuid
from collections.abc import Sequence

import msgspec

from middlewared import progress
from middlewared.client import FORMS, JOB_S, Client, errname
from middlewared.kernel.errors import CallFailed, MiddlewareError, OutcomeUnknown, Refused

DEFAULT_URI = "ws+unix:///run/middleware/middlewared.sock"
DEFAULT_TIMEOUT_S = 60.0

_BASH = """\
_midclt() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}
    case $previous in
        call) COMPREPLY=($(compgen -W "$(midclt completion methods 2>/dev/null)" -- "$current")) ;;
        subscribe) COMPREPLY=($(compgen -W "$(midclt completion events 2>/dev/null)" -- "$current")) ;;
        *) COMPREPLY=($(compgen -W "call subscribe ping completion" -- "$current")) ;;
    esac
}
complete -F _midclt midclt"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.timeout is None:
        args.timeout = JOB_S if args.command == "call" and args.job else _call_timeout_s(parser)
    try:
        asyncio.run(_run(args))
    except Refused as e:
        lines = [f"[{errname(number)}] {field}: {message}" for field, message, number in e.problems]
        return _fail(args.quiet, *lines)
    except OutcomeUnknown as e:
        return _fail(args.quiet, f"[{errname(e.errno)}] {e.reason}", *_hints(args, e.request_id))
    except CallFailed as e:
        extra = [] if e.extra in (None, [], {}) else [_json(e.extra)]
        return _fail(args.quiet, f"[{errname(e.errno)}] {e.reason}", *extra)
    except MiddlewareError as e:
        return _fail(args.quiet, str(e))
    except (KeyboardInterrupt, BrokenPipeError):
        return 1
    return 0


def _hints(args: argparse.Namespace, request_id: str) -> list[str]:
    if args.command != "call":
        return []
    again = f"call {'-j ' if args.job else ''}--request-id {request_id} {args.method} ..."
    return [f"ask again for the outcome with: midclt {again}"]


async def _run(args: argparse.Namespace) -> None:
    async with Client(*(args.uris or [DEFAULT_URI]), username=args.username, password=args.password) as client:
        match args.command:
            case "ping":
                _print(await client.ping(args.timeout), args.json)
            case "call":
                given = [_argument(text) for text in args.args]
                sending = {"timeout_s": args.timeout, "request_id": args.request_id}
                if args.job:
                    with progress.shown(args.job_print == "progressbar") as show:
                        result = await client.call_job(args.method, *given, progress=show, **sending)
                else:
                    result = await client.call(args.method, *given, **sending)
                _print(result, args.json)
            case "subscribe":
                await _listen(client, args)
            case _:
                await _complete(client, args.what)


async def _listen(client: Client, args: argparse.Namespace) -> None:
    """Print notifications, one line each; `-n` of them, or until `-t` seconds have passed."""
    subscribe = client.follow if args.resume else client.subscribe
    subscription = await subscribe(args.name, since=args.since, timeout_s=args.timeout)
    heard = 0
    try:
        async with asyncio.timeout(args.for_s):
            async for params in subscription:
                sys.stdout.write(_json(params) + "\n")
                sys.stdout.flush()
                heard += 1
                if heard == args.number:
                    return
    except TimeoutError:
        raise CallFailed(errno.ETIMEDOUT, f"{heard} notifications came within {args.for_s:g} s") from None


async def _complete(client: Client, what: str) -> None:
    if what == "bash":
        sys.stdout.write(_BASH + "\n")
        return
    known = await client.call(f"core.get_{what}", timeout_s=2.0)
    sys.stdout.write("\n".join(known if isinstance(known, dict) else ()) + "\n")


def _argument(text: str) -> object:
    """What is JSON is taken as JSON, all else as a string; `-` is what stands on stdin."""
    if text == "-":
        text = sys.stdin.read()
    try:
        value: object = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return value


def _print(result: object, as_json: bool) -> None:
    """Strings and truth values as scripts of this API expect them (bare, True or False), unless JSON is wanted."""
    bare = isinstance(result, str | bool) and not as_json
    sys.stdout.write((str(result) if bare else _json(result)) + "\n")


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _fail(quiet: bool, *lines: str) -> int:
    if not quiet:
        sys.stderr.write("\n".join(lines) + "\n")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="midclt", description="Call the API of middlewared.")
    add = parser.add_argument
    where = f"where the server is: {FORMS} (default: {DEFAULT_URI}); once for each controller"
    add("-u", "--uri", action="append", dest="uris", help=where)
    add("-U", "--username", help="log in as")
    add("-P", "--password", help="with this password")
    default = f"default: $CALL_TIMEOUT or {DEFAULT_TIMEOUT_S:g}; a day for a job's end"
    add("-t", "--timeout", type=_seconds, help=f"seconds to wait, all in all ({default})")
    _add_output(parser, False)
    commands = parser.add_subparsers(dest="command", required=True)
    call = commands.add_parser("call", help="call a method and print its result")
    call.add_argument("method")
    call.add_argument("args", nargs="*", help="JSON, or a bare string; - reads it from stdin")
    help_ = "the id of a write whose outcome was unknown: it is not done twice, and answered as it was"
    call.add_argument("--request-id", type=_uuid, metavar="UUID", help=help_)
    call.add_argument("-j", "--job", action="store_true", help="it is a job: show its progress, wait for its end")
    looks = ("progressbar", "description")
    call.add_argument("-jp", "--job-print", choices=looks, default=looks[0], help="a bar on a terminal, or lines")
    subscribe = commands.add_parser("subscribe", help="print the notifications of a collection, one a line")
    subscribe.add_argument("name", help="the collection, or *")
    subscribe.add_argument("--since", type=int, metavar="SEQ", help="begin after this record of the log, and resume")
    subscribe.add_argument("--resume", action="store_true", help="go on when the connection or the controller is lost")
    subscribe.add_argument("-n", "--number", type=int, default=0, help="end after so many")
    subscribe.add_argument("-t", "--for", dest="for_s", type=_seconds, help="fail when they do not come in this time")
    ping = commands.add_parser("ping", help="is anyone there?")
    for command in (call, subscribe, ping):
        _add_output(command, argparse.SUPPRESS)
    completion = commands.add_parser("completion", help="print what a shell needs to complete command lines")
    completion.add_argument("what", choices=("bash", "methods", "events"))
    return parser


def _add_output(parser: argparse.ArgumentParser, default: object) -> None:
    """The options that may stand before the command and after it."""
    parser.add_argument("-q", "--quiet", action="store_true", default=default, help="on failure, the exit status only")
    parser.add_argument("--json", action="store_true", default=default, help="strings and booleans as JSON too")


def _call_timeout_s(parser: argparse.ArgumentParser) -> float:
    try:
        return _seconds(os.environ.get("CALL_TIMEOUT", str(DEFAULT_TIMEOUT_S)))
    except (ValueError, argparse.ArgumentTypeError) as e:
        parser.error(f"CALL_TIMEOUT: {e}")


def _uuid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no UUID") from None


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return value


if __name__ == "__main__":
    sys.exit(main())
