"""The command line `middlewared-lab`. Every command but `exec` is a question to the bench, see verbs.py.

Exit status: 0; 1 with one line on stderr when it cannot be done; 2 for wrong arguments; for `exec` the command's own,
125 when the machine is off.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from middlewared.kernel.errors import MiddlewareError
from middlewared.kernel.facts import Node
from middlewared.lab import inside, verbs
from middlewared.lab.faults import LINKS, LOST_PERCENT, NODES
from middlewared.lab.layout import Layout, default_dir

FAULT_TIMEOUT_S = 60.0
STATUS_TIMEOUT_S = 10.0

DESCRIPTION = """\
Two controllers, their shared disks, a switch and a client on this machine, in namespaces; and every fault that
a pair must survive. All commands but exec return when what they say is in force, and may be repeated."""


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    # What follows -- belongs to the command that exec runs; argparse would look for our options in it.
    at = words.index("--") if "--" in words else len(words)
    arguments = parser().parse_args(words[:at])
    arguments.command = words[at + 1 :]
    run: Callable[[Layout, argparse.Namespace], int] = arguments.run
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        return run(Layout(arguments.dir), arguments)
    except MiddlewareError as e:
        print(f"middlewared-lab: {e}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="middlewared-lab", description=DESCRIPTION)
    root.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = root.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[Layout, argparse.Namespace], int], say: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=say, description=say)
        command.add_argument(
            "--dir", type=Path, default=default_dir(), help="where the lab keeps its files (default: %(default)s)"
        )
        command.set_defaults(run=run)
        return command

    _add_life(add("up", _up, "bring the pair up; without --detach show it until Ctrl-C, then end it"))
    status = add("status", _status, "say how each controller is, who has the virtual IP and what is cut")
    status.add_argument("--json", action="store_true", help="as one JSON object")
    power = add("power", _power, "take a controller's power away, or give it back")
    power.add_argument("node", choices=NODES)
    power.add_argument("to", choices=("off", "on"))
    for name, what in (("freeze", "stop every process of a controller; kernel and links stay up"), ("thaw", "go on")):
        add(name, _freeze if name == "freeze" else _thaw, what).add_argument("node", choices=NODES)
    for name, run, what in (("cut", _cut, "cut a cable"), ("heal", _heal, "mend a cable")):
        cable = add(name, run, what)
        cable.add_argument("link", choices=LINKS)
        ways = cable.add_mutually_exclusive_group()
        ways.add_argument(
            "--lossy",
            dest="one_way",
            action="store_const",
            const="lossy",
            help=f"only {LOST_PERCENT} %% of the frames, at random, both ways; the link stays up",
        )
        ways.add_argument(
            "--one-way",
            choices=("in", "out"),
            help="only frames towards the controller (in) or from it (out); the link stays up; for the interlink: A",
        )
    ending = add("down", _down, "end the lab and leave nothing running; the databases stay")
    ending.add_argument("--wipe", action="store_true", help="remove the databases too")
    execute = add("exec", _exec, "run a command in a machine's namespaces; its exit status, 125 when it is off")
    execute.add_argument("machine", choices=(*NODES, "client"))
    execute.usage = "%(prog)s [-h] [--dir DIR] {A,B,client} -- CMD ..."
    execute.set_defaults(usage_error=execute.error)
    return root


def _add_life(command: argparse.ArgumentParser) -> None:
    command.add_argument("--detach", action="store_true", help="return as soon as the pair serves")
    command.add_argument(
        "--build",
        type=_build,
        action="append",
        default=[],
        metavar="NODE=DIR",
        help="let controller NODE run the build that is installed in the virtual environment DIR; a symbolic link is"
        " followed at each start of its programs",
    )
    command.add_argument(
        "--stand-ins", type=Path, metavar="FILE", help="run other programs (see docs/running-the-lab.md)"
    )


def _build(text: str) -> tuple[Node, str]:
    node, _, directory = text.partition("=")
    if node not in NODES or not Path(directory, "bin", "middlewared").exists():
        raise argparse.ArgumentTypeError(f"{text!r} is not A=DIR or B=DIR with a DIR/bin/middlewared")
    return node, str(Path(directory).absolute())


def _up(layout: Layout, arguments: argparse.Namespace) -> int:
    from middlewared.lab import down, programs, screen, up

    stand_ins = arguments.stand_ins
    chosen = programs.read(stand_ins) if stand_ins else programs.ours(layout, dict(arguments.build))
    result = up.up(layout, chosen, _say)
    if arguments.detach or not sys.stdout.isatty():  # a terminal is shown the same, and more, all the time
        print(result.decode(), flush=True)
    if not arguments.detach:
        try:
            screen.show(layout, msgspec.json.decode(result, type=up.Result))
        except KeyboardInterrupt:
            _say("ending the lab")
        finally:
            down.down(layout)
    return 0


def _status(layout: Layout, arguments: argparse.Namespace) -> int:
    answer = verbs.ask(layout, verbs.Status(), STATUS_TIMEOUT_S, _say)
    if arguments.json:
        print(answer.decode())
        return 0
    lab = msgspec.json.decode(answer)
    for name, node in lab["nodes"].items():
        log = node["log"] or {"last_seq": "-", "commit_seq": "-"}
        frozen = ", frozen" if node["frozen"] else ""
        print(
            f"{name}: power {node['power']}{frozen}, role {node['role'] or '-'}, term {node['term'] or '-'},"
            f" log {log['last_seq']}, committed {log['commit_seq']}"
        )
    print(f"virtual IP: {lab['vip']['owner'] or 'nobody'}; cut: {', '.join(lab['cuts']) or 'none'}")
    return 0


def _power(layout: Layout, arguments: argparse.Namespace) -> int:
    return _fault(layout, verbs.Power(node=arguments.node, on=arguments.to == "on"))


def _freeze(layout: Layout, arguments: argparse.Namespace) -> int:
    return _fault(layout, verbs.Freeze(node=arguments.node))


def _thaw(layout: Layout, arguments: argparse.Namespace) -> int:
    return _fault(layout, verbs.Thaw(node=arguments.node))


def _cut(layout: Layout, arguments: argparse.Namespace) -> int:
    return _fault(layout, verbs.Cut(link=arguments.link, way=arguments.one_way or "both"))


def _heal(layout: Layout, arguments: argparse.Namespace) -> int:
    return _fault(layout, verbs.Heal(link=arguments.link, way=arguments.one_way or "both"))


def _fault(layout: Layout, verb: verbs.Verb) -> int:
    verbs.ask(layout, verb, FAULT_TIMEOUT_S, _say)
    return 0


def _down(layout: Layout, arguments: argparse.Namespace) -> int:
    from middlewared.lab import down

    down.down(layout, arguments.wipe)
    return 0


def _exec(layout: Layout, arguments: argparse.Namespace) -> int:
    if not arguments.command:
        arguments.usage_error("a command is needed after --")
    pid = int(verbs.ask(layout, verbs.Where(machine=arguments.machine), STATUS_TIMEOUT_S, _say))
    if not pid:
        print(f"middlewared-lab: {arguments.machine} is off", file=sys.stderr)
        return inside.OFF
    return inside.run(pid, arguments.command)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
