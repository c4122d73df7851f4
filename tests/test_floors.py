"""Imports go down only, and the pure floors stay pure. Read by AST: nothing is imported to find out."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PURE = {"kernel", "protocol", "plugin", "log_format", "ports", "plugins", "sim", "boot_rules"}
BANNED = {
    "asyncio",
    "datetime",
    "logging",
    "os",
    "pathlib",
    "random",
    "secrets",
    "select",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "sys",
    "threading",
    "time",
    "uuid",
}

# floor -> the floors that it may import from (itself included)
MAY_IMPORT = {
    "kernel": {"kernel"},
    "protocol": {"kernel", "protocol"},
    "ports": {"kernel", "ports"},
    "plugin": {"kernel", "ports", "plugin"},
    "log_format": {"kernel", "plugin", "log_format"},
    "plugins": {"kernel", "ports", "plugin", "log_format", "plugins"},
    "effects": {"kernel", "ports", "plugin", "plugins", "effects"},
    "boot_rules": {"boot_rules"},
    "config": {"kernel", "protocol", "boot_rules", "config"},
    "store": {"kernel", "plugin", "ports", "store", "migrations"},
    "migrations": {"kernel", "store", "migrations", "plugins"},
    "engine": {"kernel", "protocol", "plugin", "log_format", "ports", "store", "engine", "config"},
    "shell": {"kernel", "protocol", "ports", "config", "shell"},
    # The simulator composes what the daemon and fenced compose, on its own loop, disk, network and clock.
    "sim": {"kernel", "protocol", "plugin", "ports", "config", "store", "engine", "fenced", "sim"},
    "sim_command": {"sim"},
    "subscriptions": {"kernel", "subscriptions"},
    "connection": {"kernel", "protocol", "shell", "subscriptions", "connection"},
    "sending": {"kernel", "connection", "sending"},
    "client": {"kernel", "protocol", "shell", "subscriptions", "connection", "sending", "client"},
    "midclt": {"kernel", "client", "progress", "midclt"},
    "progress": {"progress"},
    "fenced": {"kernel", "protocol", "ports", "config", "shell", "fenced"},
    "carpd": {"kernel", "protocol", "ports", "config", "shell", "carpd"},
    "lab": {"kernel", "protocol", "ports", "config", "shell", "client", "lab"},
    # The composition roots know everything but the lab.
    "daemon": {"kernel", "protocol", "plugin", "log_format", "ports", "config", "store", "engine", "shell", "daemon"},
    "config_command": {"kernel", "boot_rules", "config", "store", "engine", "shell", "config_command"},
    "completion_command": {"completion_command"},
    "init_command": {"config", "shell", "client", "init_command"},
    "setup": {"kernel", "protocol", "boot_rules", "config", "shell", "client", "setup"},
    "log_command": {"kernel", "config", "store", "engine", "repair_command", "log_command"},
    "repair_command": {"kernel", "config", "store", "shell", "repair_command"},
    "command": {"kernel", "protocol", "plugin", "ports", "config", "store", "engine", "shell", "daemon", "client"}
    | {"command", "completion_command", "config_command", "init_command", "setup", "log_command", "repair_command"},
}

# (file, import) -> why it is allowed
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("middlewared/sim/loop.py", "asyncio"): "it is the event loop on which production coroutines run",
    ("middlewared/sim/loop.py", "logging"): "production code logs; the simulator silences it, its trace tells more",
    (
        "middlewared/sim/hub.py",
        "asyncio",
    ): "FenceClient.write waits with a timeout, as the real one, on the virtual loop",
    ("middlewared/sim/processes.py", "pathlib.Path"): "the replicator names a quarantine directory; nobody opens it",
}
# The whole chance of a simulated world is one generator that its seed begins; the module's own functions are not it.
SEEDED = "random.Random"

# fenced and carpd must come back within 100 ms and never wait for a database.
HEAVY = {"aiohttp", "sqlalchemy", "alembic", "rich", "jsonrpcserver", "cryptography"}


def floor_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[-2:] in (("sim", "__main__"), ("sim", "hunt")):
        return "sim_command"
    if parts[0] == "plugins":
        return "effects" if parts[-1] == "effects" else "plugins"
    if parts[0] == "migrations":
        return "migrations"
    return parts[1] if len(parts) > 1 else "middlewared"


def imports_of(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def floor_named_by(name: str) -> str | None:
    parts = name.split(".")
    if parts[0] == "middlewared":
        return parts[1] if len(parts) > 1 else None
    return {"middlewared_plugins": "plugins", "middlewared_migrations": "migrations"}.get(parts[0])


def faults_in(path: Path) -> list[str]:
    """Every import in `path` that its floor forbids."""
    floor = floor_of(path)
    where = str(path.relative_to(ROOT))
    faults = []
    for name in imports_of(path):
        if (where, name) in EXCEPTIONS:
            continue
        target = floor_named_by(name)
        if target is not None and floor in MAY_IMPORT and target not in MAY_IMPORT[floor] | {"__version__"}:
            faults.append(f"{where} ({floor}) imports {name} ({target})")
        if floor == "sim" and name == SEEDED:
            continue
        if floor in PURE and name.split(".")[0] in BANNED:
            faults.append(f"{where} ({floor}) is pure and imports {name}")
        if floor in ("fenced", "carpd") and name.split(".")[0] in HEAVY:
            faults.append(f"{where} ({floor}) must start in milliseconds and imports {name}")
    return faults


def sources() -> list[Path]:
    return [p for top in ("middlewared", "plugins", "migrations") for p in sorted((ROOT / top).rglob("*.py"))]


def test_every_import_goes_down_and_pure_floors_stay_pure() -> None:
    assert [fault for path in sources() for fault in faults_in(path)] == []


def test_every_file_has_a_floor() -> None:
    known = set(MAY_IMPORT) | {"middlewared", "__init__"}
    assert [str(p) for p in sources() if floor_of(p) not in known] == []


def test_a_plugin_never_imports_another_plugin() -> None:
    plugins = {p.name for p in (ROOT / "plugins").iterdir() if p.is_dir()}
    faults = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / "plugins").rglob("*.py"))
        for name in imports_of(path)
        if name.startswith("middlewared_plugins.") and name.split(".")[1] in plugins - {path.relative_to(ROOT).parts[1]}
    ]
    assert faults == []


def test_every_directory_of_code_is_packaged() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    names = {"plugins": "middlewared_plugins", "migrations": "middlewared_migrations", "middlewared": "middlewared"}
    for path in sources():
        if path.name == "__init__.py":
            top, *rest = path.parent.relative_to(ROOT).parts
            assert f'"{".".join([names[top], *rest])}"' in text, path


@pytest.mark.parametrize("planted", ["import socket", "from time import monotonic", "import asyncio"])
def test_a_planted_import_in_protocol_is_found(planted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "middlewared" / "protocol" / "planted.py"
    file.parent.mkdir(parents=True)
    file.write_text(planted + "\n")
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert faults_in(file) != []


@pytest.mark.parametrize(
    ("planted", "allowed"),
    [("from random import Random", True), ("import random", False), ("from random import choice", False)],
)
def test_the_simulator_may_have_a_seeded_generator_and_no_other_chance(
    planted: str, allowed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "middlewared" / "sim" / "planted.py"
    file.parent.mkdir(parents=True)
    file.write_text(planted + "\n")
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert (faults_in(file) == []) is allowed
