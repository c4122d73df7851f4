"""A whole pair is looked after: its audit, its logs and its backups, on both controllers. Needs root."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from middlewared.client import Client
from middlewared.kernel.errors import NotActive
from middlewared.kernel.facts import Node
from middlewared.lab.driver import Pair
from tests.integration.conftest import records, write_at_vip

pytestmark = pytest.mark.root


def job(pair: Pair, node: Node, method: str, *params: object) -> tuple[Any, list[dict[str, Any]]]:
    """The result of a job on a controller, asked for as root, and every change that was told."""
    told: list[dict[str, Any]] = []

    async def run() -> object:
        async with Client(f"ws+unix://{pair.layout.api_socket(node)}") as client:
            return await client.call_job(method, *params, progress=lambda j: told.append(dict(j)), timeout_s=60)

    return asyncio.run(run()), told


def audit(pair: Pair, at: Node, **query: object) -> dict[str, Any]:
    page = pair.call(at, "audit.query", query)
    assert isinstance(page, dict)
    return page


def test_the_audit_joins_the_log_with_what_either_controller_noted(pair: Pair) -> None:
    write_at_vip(pair, domain="before.test")
    meta = write_at_vip(pair, domain="audited.test")
    with suppress(NotActive):
        pair.call("B", "network.configuration.update", {"domain": "wrong.test"})
    pair.call("B", "network.configuration.config")
    pages = {node: audit(pair, node, limit=1000) for node in ("A", "B")}
    for page in pages.values():
        assert page["missing"] == []
        written = next(e for e in page["entries"] if e["seq"] == meta["seq"])
        assert (written["user"], written["method"]) == (pair.result.user, "network.configuration.update")
        assert (written["before"], written["after"]) == ({"domain": "before.test"}, {"domain": "audited.test"})
        assert written["origin"].count(":") == 1
        kinds = {(e["node"], e["kind"], e["method"]) for e in page["entries"]}
        assert ("A", "login", "auth.login_ex") in kinds
        assert ("B", "refused", "network.configuration.update") in kinds
        assert ("B", "read", "network.configuration.config") in kinds
        assert pair.result.password not in json.dumps(page)
    (refused, *_) = audit(pair, "A", kinds=["refused"], node="B")["entries"]
    assert (refused["errno"], refused["user"]) == (30, "root")


def test_an_audit_without_the_other_controller_says_so(pair: Pair) -> None:
    pair.power_off("B")
    pair.wait_until("A is alone", lambda: audit(pair, "A", kinds=["login"])["missing"] != [], within_s=5)
    (missing,) = audit(pair, "A", kinds=["login"])["missing"]
    assert missing == {"node": "B", "why": "The other controller is not connected"}


def test_both_logs_are_verified_from_either_controller_and_from_the_command_line(pair: Pair) -> None:
    write_at_vip(pair, domain="verified.test")
    verdict, told = job(pair, "A", "log.verify")
    end = records(pair, "A")[-1]
    for node in ("A", "B"):
        assert (verdict[node]["intact"], verdict[node]["fault"]) == (True, None)
        assert verdict[node]["records"] >= end.seq
    assert [j["state"] for j in (told[0], told[-1])] == ["WAITING", "SUCCESS"]
    assert job(pair, "B", "log.verify", "A")[0]["A"]["intact"] is True
    lines = pair.run("A", "midclt", "call", "-j", "log.verify").splitlines()
    assert json.loads(lines[-1])["B"]["intact"] is True


@pytest.mark.parametrize("node", ["A", "B"])
def test_a_backup_of_either_controller_holds_the_configuration_at_its_seq(pair: Pair, node: Node) -> None:
    write_at_vip(pair, domain=f"saved-{node.lower()}.test")
    saved, told = job(pair, node, "system.config.save")
    assert told[-1]["state"] == "SUCCESS"
    archive = pair.layout.machine(node) / "backup" / Path(saved["path"]).name
    assert archive.stat().st_size == saved["size"]
    assert saved["seq"] >= records(pair, "A")[-1].seq - 1
    pair.run(node, "sh", "-c", f"mkdir -p /tmp/unpacked && tar -xf {saved['path']} -C /tmp/unpacked")
    assert "intact" in pair.run(node, "middlewared", "log", "verify", "/tmp/unpacked/log.db")
    sync = pair.sync(node)
    if sync.digest_at_seq == saved["seq"]:
        assert sync.state_digest == saved["digest"]


def test_writes_go_on_while_the_log_is_verified_and_saved(pair: Pair) -> None:
    async def both() -> list[str]:
        result = pair.result
        at_vip = Client(result.vip_url, username=result.user, password=result.password, durability=True)
        root = Client(f"ws+unix://{pair.layout.api_socket('A')}")
        async with at_vip, root:
            jobs = [asyncio.create_task(root.call_job(m)) for m in ("log.verify", "system.config.save")]
            levels = []
            number = 0
            while not all(job.done() for job in jobs):
                reply = await at_vip.request("network.configuration.update", [{"domain": f"w{number}.test"}])
                assert reply.meta is not None
                levels.append(reply.meta.durability)
                number += 1
            await asyncio.gather(*jobs)
            return levels

    levels = asyncio.run(both())
    assert len(levels) > 3
    assert set(levels) == {"pair"}
