"""PostgreSQL 15 with a synchronous standby, as others get a write durable on both: the figures to stand beside ours.

Debian's packages, both servers on this machine in directories of their own, unix sockets only, defaults but
synchronous_standby_names and synchronous_commit. One row of the size of a record for each transaction, by pgbench.
Needs root and Debian's postgresql-15 (packages-bench.txt).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from bench.floor import VALUE
from bench.report import Figure
from middlewared.kernel.errors import PortFailed

BIN = Path("/usr/lib/postgresql/15/bin")
USER = "postgres"
CLIENTS = 64
RATE_S = 5
LEVELS = ("on", "remote_apply")
START_S = 30.0
_PRIMARY, _STANDBY = 54321, 54322


def measure(runs: int) -> list[Figure]:
    """runs: how many transactions one client makes."""
    if not (BIN / "initdb").exists():
        raise PortFailed("measure PostgreSQL", "Debian's postgresql-15 is not installed (packages-bench.txt)")
    directory = Path(tempfile.mkdtemp(prefix="mwb-"))
    shutil.chown(directory, USER)
    pair = _Pair(directory)
    try:
        pair.start()
        return [figure for level in LEVELS for figure in (pair.latency(level, runs), pair.rate(level))]
    finally:
        pair.stop()
        shutil.rmtree(directory)


class _Pair:
    """A primary and its synchronous standby below `directory`."""

    def __init__(self, directory: Path) -> None:
        self._dir = directory
        self._started: list[str] = []

    def start(self) -> None:
        self._run("initdb", "-D", "primary", "-A", "trust", "--no-sync")
        self._serve("primary", _PRIMARY, "synchronous_standby_names=s")
        self._run("pg_basebackup", "-h", str(self._dir), "-p", str(_PRIMARY), "-D", "standby", "-R", "-X", "stream")
        self._serve("standby", _STANDBY, f"primary_conninfo=host={self._dir} port={_PRIMARY} application_name=s")
        until = time.monotonic() + START_S
        while self._sql("SELECT sync_state FROM pg_stat_replication") != "sync":
            if time.monotonic() > until:
                raise PortFailed("start PostgreSQL", f"no synchronous standby within {START_S:g} s")
            time.sleep(0.1)
        self._sql("CREATE TABLE v (seq bigserial PRIMARY KEY, body bytea)")
        script = self._dir / "insert.sql"
        script.write_text(f"INSERT INTO v (body) VALUES ('{VALUE.decode()}');\n")
        script.chmod(0o644)

    def stop(self) -> None:
        for name in reversed(self._started):
            self._run("pg_ctl", "-D", name, "-m", "immediate", "-w", "stop")

    def latency(self, level: str, runs: int) -> Figure:
        took_ms = [
            float(line.split()[2]) / 1000
            for line in self._pgbench(level, "-c", "1", "-t", str(runs), "--log", "--log-prefix", "lat")
        ]
        took_ms.sort()
        p50, p99 = (took_ms[min(len(took_ms) - 1, len(took_ms) * q // 100)] for q in (50, 99))
        return Figure(
            what=f"PostgreSQL, synchronous_commit={level}, 1 client",
            runs=len(took_ms),
            said=f"p50 {p50 * 1000:.0f} us; p99 {p99 * 1000:.0f} us",
            values={"p50_us": p50 * 1000, "p99_us": p99 * 1000},
        )

    def rate(self, level: str) -> Figure:
        self._pgbench(level, "-c", str(CLIENTS), "-j", "1", "-T", str(RATE_S))
        rate = float(_TPS.findall(self._said)[0])
        return Figure(
            what=f"PostgreSQL, synchronous_commit={level}, {CLIENTS} clients",
            runs=1,
            said=f"{rate:.0f} transactions/s",
            values={"events_per_s": rate},
        )

    def _pgbench(self, level: str, *arguments: str) -> list[str]:
        """Run it; the lines of its log, where one was asked for."""
        connection = f"host={self._dir} port={_PRIMARY} dbname=postgres options='-c synchronous_commit={level}'"
        self._said = self._run("pgbench", "-n", "-M", "prepared", "-f", "insert.sql", *arguments, connection)
        lines = []
        for file in self._dir.glob("lat.*"):
            lines += file.read_text().splitlines()
            file.unlink()
        return lines

    def _serve(self, name: str, port: int, setting: str) -> None:
        options = f"-c listen_addresses= -c unix_socket_directories={self._dir} -c port={port} -c '{setting}'"
        self._run("pg_ctl", "-D", name, "-l", f"{name}.log", "-w", "-o", options, "start")
        self._started.append(name)

    def _sql(self, text: str) -> str:
        return self._run("psql", "-h", str(self._dir), "-p", str(_PRIMARY), "-d", "postgres", "-Atc", text).strip()

    def _run(self, program: str, *arguments: str) -> str:
        path = BIN / program if (BIN / program).exists() else Path(program)
        done = subprocess.run(
            ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", str(path), *arguments],
            cwd=self._dir,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            raise PortFailed(f"run {program}", done.stderr.strip()[-500:])
        return done.stdout


_TPS = re.compile(r"tps = ([0-9.]+)")
