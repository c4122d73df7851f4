"""What is shown of a lab."""

from __future__ import annotations

from rich.console import Console

from middlewared.lab.screen import picture, summary
from middlewared.lab.status import Controller, Lab, LogPosition, VipState
from middlewared.lab.up import Result

RESULT = Result(
    nodes={"A": {"url": "http://a"}, "B": {"url": "http://b"}},
    vip_url="http://v",
    user="admin",
    password="pw",
    dir="/d",
)
ACTIVE = Controller(power="on", frozen=False, role="MASTER", term=3, log=LogPosition(last_seq=12, commit_seq=11))
SILENT = Controller(power="on", frozen=False, role=None, term=None, log=None)
LAB = Lab(nodes={"A": ACTIVE, "B": SILENT}, vip=VipState(owner="A"), cuts=("interlink", "lan:B in"))


def test_one_line_says_who_is_active_where_the_logs_are_and_what_to_open() -> None:
    assert summary(LAB, RESULT) == (
        "A MASTER log 12, committed 11 http://a; B silent log - http://b; virtual IP 192.0.2.10 on A http://v"
    )


def test_the_picture_has_the_same_and_the_cuts_and_the_login() -> None:
    console = Console(width=120)
    with console.capture() as shown:
        console.print(picture(LAB, RESULT))
    for word in ("MASTER", "12", "11", "silent", "http://a", "http://b", "http://v", "lan:B in", "admin / pw", "/d"):
        assert word in shown.get()


def test_a_controller_without_power_is_off_and_a_frozen_one_is_frozen() -> None:
    off = Controller(power="off", frozen=False, role=None, term=None, log=None)
    frozen = Controller(power="on", frozen=True, role=None, term=None, log=None)
    line = summary(Lab(nodes={"A": off, "B": frozen}, vip=VipState(owner=None), cuts=()), RESULT)
    assert line.startswith("A off log -")
    assert "; B frozen log -" in line
    assert "on nobody" in line
