"""`middlewared setup`: from a machine to one controller of a pair, by questions or by options.

    asked      the answers, each checked as it is given
    shown      all that will be done; nothing has been changed so far
    done       the boot file, the units, the daemons; the first administrator or the pairing

Every step looks first whether it is done already, so that setup may be broken off anywhere and run again. What it
cannot undo it does last: a controller that joins takes over the other's configuration.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from middlewared import config
from middlewared.kernel.errors import BadBootFile, PortFailed, Refused
from middlewared.setup import units
from middlewared.setup.answers import as_text, boot_file
from middlewared.setup.daemon import PAIR_S, Daemon, Found
from middlewared.setup.dialog import Dialog
from middlewared.setup.nics import all_nics
from middlewared.setup.questions import Given, gateway, gather
from middlewared.shell import durable_file
from middlewared.shell.identity import is_paired, read_code

START_S = 60.0
JOINED_S = 60.0
SYSTEMCTL_S = 120.0
INTERRUPTED = 130


def run(args: argparse.Namespace) -> int:
    """Exit status 0: it is a controller now; 1: it is not, stderr says why; 130: broken off."""
    setup = Setup(args)
    try:
        setup.ask()
        if not setup.agreed():
            return 1
        setup.carry_out()
    except KeyboardInterrupt:
        done = "What was done stays; run it again to go on." if setup.began else "Nothing was changed."
        print(f"\nmiddlewared: broken off. {done}", file=sys.stderr)
        return INTERRUPTED
    return 0


class Setup:
    """One run. began: something has been changed."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.began = False
        self._args = args
        self._file: Path = args.config
        self._dialog = Dialog(assume=args.yes)
        self._password = ""
        self._code: str | None = args.join
        self._gateway: str | None = None
        self._username: str = args.username
        self._found: Found | None = None

    # Asked

    def ask(self) -> None:
        """Raises MiddlewareError for what cannot be so."""
        if not self._args.no_units and self._file.absolute() != config.DEFAULT_PATH:
            sentence = f"the units of systemd read {config.DEFAULT_PATH}: another file needs --no-units"
            raise Refused(("--config", sentence))
        if os.geteuid() != 0:
            raise PortFailed("setup", "only root can make a machine a controller")
        if not self._args.no_units and not Path("/run/systemd/system").is_dir():
            raise PortFailed("setup", "systemd does not run here: use --no-units, and start the three daemons yourself")
        self._before = config.parse(self._file) if self._file.exists() else {}
        given = Given(
            node=self._args.node,
            interlink=self._args.interlink,
            interlink_address=self._args.interlink_address,
            peer=self._args.peer,
            address=self._args.address,
        )
        self._dialog.say("This makes this machine a controller. Nothing is changed until you agree to all of it.\n")
        self._answers = gather(given, self._before, all_nics(), self._dialog)
        self._wanted = boot_file(self._before, self._answers)
        if faults := config.check(self._wanted):
            raise BadBootFile(*(f"{self._file}: {fault}" for fault in faults))
        values = config.flat(self._wanted)
        self._refuse_other_half(Path(str(values["data_dir"])))
        self._units = units.files(Path(sys.argv[0]).resolve().parent, str(values["data_dir"]))
        if not self._args.no_units:
            units.refuse_obstacles(self._units)
        self._daemon = Daemon(f"{values['run_dir']}/middlewared.sock")
        self._found = self._daemon.look()
        self._ask_for_pairing()
        self._ask_for_gateway()
        self._ask_for_administrator()

    def _refuse_other_half(self, data_dir: Path) -> None:
        """The keys, the log and the shared disks of a pair know this controller by its letter."""
        before = self._before.get("node", self._answers.node)
        if before != self._answers.node and is_paired(data_dir):
            raise Refused(("--node", f"this controller is {before} of a pair, and cannot become {self._answers.node}"))

    def _ask_for_pairing(self) -> None:
        """Whose configuration becomes the pair's: the one that is set up first shows a code, the second is given it."""
        if self._answers.interlink is None or self._is_paired or self._args.no_pairing:
            self._code = None
            return
        if self._code is not None:
            _check_code(self._code)
        elif not self._dialog.assumes and self._dialog.agree(
            "Is the other controller set up already, and does it show a code?", default=self._answers.node == "B"
        ):
            self._code = self._dialog.ask("The code:", "--join", None, _check_code)

    def _ask_for_gateway(self) -> None:
        """Of the pair; who joins has it from the other. A system that gives the address gives the way out too."""
        joins = self._code is not None
        asks = self._answers.first_address is not None and not (joins or self._is_paired or self._dialog.assumes)
        self._gateway = gateway(self._args.gateway, joins=joins, asks=asks, dialog=self._dialog)
        if self._gateway is not None and self._is_paired and not self._daemon.has_gateway(self._gateway):
            how = "change it by network.configuration.update on the active controller"
            raise Refused(("--gateway", f"this controller is one of a pair, which has another: {how}"))

    def _ask_for_administrator(self) -> None:
        if not self._needs_administrator:
            return
        if self._args.password_file is not None:
            self._password = _first_line(self._args.password_file)
        elif not self._dialog.assumes:
            self._username = self._dialog.ask(
                "Name of the first administrator:", "--username", self._username, _not_empty
            )
            self._password = self._dialog.new_password(self._username)

    @property
    def _needs_administrator(self) -> bool:
        there = self._found is not None and self._found.administrator
        return not (self._code is not None or self._is_paired or there)

    @property
    def _is_paired(self) -> bool:
        return self._found is not None and self._found.paired

    # Shown

    def agreed(self) -> bool:
        """Show what will be done; whether it shall be."""
        self._dialog.say("\nThis will be done:")
        for sentence in self._plan():
            self._dialog.say(f"  - {sentence}")
        if self._dialog.agree("Go on?", default=self._dialog.assumes):
            return True
        self._dialog.say("Nothing was changed.")
        return False

    def _plan(self) -> Iterator[str]:
        if not self._says_more:
            yield f"{self._file} stays as it is"
        else:
            yield f"{self._file} is written, for controller {self._answers.node}"
        if not self._args.no_units:
            missing = len(units.differing(self._units))
            yield (
                f"units of systemd: {missing} files and links are put below /etc/systemd"
                if missing
                else "the units stay"
            )
            yield "the daemons are started anew" if self._anew else "the daemons are started"
        yield from self._plan_for_people()

    def _plan_for_people(self) -> Iterator[str]:
        if self._gateway is not None:
            yield f"the default gateway is {self._gateway}"
        if self._password:
            yield f"the administrator {self._username} is made"
        elif self._needs_administrator:
            yield "no administrator is made (--password-file): nobody can log in yet"
        if self._is_paired:
            yield "it is one of a pair already"
        elif self._code is not None and self._answers.interlink is not None:
            yield f"it joins the controller at {self._answers.interlink.peer}, whose configuration becomes this one's"
        elif self._shows_code:
            yield "it shows a code for the other controller"

    @property
    def _says_more(self) -> bool:
        """Whether the boot file that is wanted says anything else than the one that is there."""
        return config.flat(self._wanted) != config.flat(self._before)

    @property
    def _anew(self) -> bool:
        """Whether daemons that run read something that has changed."""
        return self._found is not None and bool(self._says_more or units.differing(self._units))

    @property
    def _shows_code(self) -> bool:
        alone = self._answers.interlink is None or self._is_paired
        return not (alone or self._args.no_pairing or self._dialog.assumes)

    # Done

    def carry_out(self) -> None:
        """Raises MiddlewareError; what was done until then stays, and is found done the next time."""
        self.began = True
        anew = self._anew
        self._write_boot_file()
        if not self._args.no_units:
            self._start(anew)
        with self._dialog.waiting("Waiting for middlewared to answer"):
            found = self._daemon.wait_until_it_answers(START_S)
        self._dialog.say("middlewared answers.")
        if self._password and not found.administrator:
            self._make_administrator()
        if self._gateway is not None and self._daemon.set_gateway(self._gateway):
            self._dialog.say(f"The default gateway is {self._gateway}.")
        if self._code is not None and not found.paired:
            self._join(self._code)
        elif self._shows_code and not found.paired:
            self._show_code()
        self._dialog.say("Done. What comes next stands in docs/first-hour.md.", style="bold")

    def _write_boot_file(self) -> None:
        if not self._says_more:
            return
        try:
            if self._before:
                self._file.with_name(f"{self._file.name}.old").write_bytes(self._file.read_bytes())
            durable_file.replace(self._file, as_text(self._wanted).encode(), mode=0o644)
        except OSError as e:
            raise PortFailed("write the boot file", f"{self._file}: {e.strerror}") from None
        self._dialog.say(f"{self._file} is written.")

    def _start(self, anew: bool) -> None:
        if units.install(self._units):
            _systemctl("daemon-reload")
        with self._dialog.waiting("Starting the daemons"):
            _systemctl("restart" if anew else "start", units.TARGET, *units.SERVICES)
        self._dialog.say("The daemons are started, and will be at each boot.")

    def _make_administrator(self) -> None:
        while True:
            try:
                self._daemon.make_administrator(self._username, self._password)
            except Refused as e:
                if self._dialog.assumes:
                    raise
                self._dialog.say(str(e), style="red")
                self._password = self._dialog.new_password(self._username)
            else:
                self._dialog.say(f"{self._username} may log in.")
                return

    def _join(self, code: str) -> None:
        assert self._answers.interlink is not None
        host = self._answers.interlink.peer
        with self._dialog.waiting(f"Joining the controller at {host}"):
            self._daemon.join(code, host, discard_mine=self._args.discard_mine)
            self._daemon.wait_until_paired(JOINED_S)
        self._dialog.say("The two are a pair.")

    def _show_code(self) -> None:
        assert self._answers.interlink is not None
        code = self._daemon.code()
        self._dialog.say(
            "\nRun `middlewared setup` on the other controller, and give it this code within ten minutes:\n"
        )
        print(f"    {code}\n", flush=True)
        try:
            with self._dialog.waiting("Waiting for the other controller (Ctrl-C: the code stays good)"):
                self._daemon.wait_until_paired(PAIR_S)
        except PortFailed:
            raise PortFailed("pair", "nobody came; `middlewared pair` shows a new code") from None
        self._dialog.say("The two are a pair.")


def _check_code(text: str) -> None:
    if read_code(text) is None:
        raise Refused(("--join", "is not a pairing code: eight groups of four letters and digits"))


def _not_empty(text: str) -> None:
    if not text:
        raise Refused(("--username", "must not be empty"))


def _first_line(file: Path) -> str:
    try:
        text = sys.stdin.readline() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as e:
        raise PortFailed("read the password", f"{file}: {e}") from None
    password = text.split("\n")[0]
    if not password:
        raise Refused(("--password-file", f"the first line of {file} is empty"))
    return password


def _systemctl(*argv: str) -> None:
    try:
        done = subprocess.run(["systemctl", *argv], capture_output=True, text=True, timeout=SYSTEMCTL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise PortFailed(f"systemctl {argv[0]}", str(e)) from None
    if done.returncode != 0:
        raise PortFailed(f"systemctl {argv[0]}", done.stderr.strip())
