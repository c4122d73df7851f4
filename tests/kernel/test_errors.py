from __future__ import annotations

import errno

import pytest

from middlewared.kernel import errors
from middlewared.kernel.errors import (
    CallFailed,
    ConfigBehind,
    LogDamaged,
    MiddlewareError,
    NoRole,
    NotActive,
    NotAuthenticated,
    NotAuthorized,
    OutcomeUnknown,
    PortFailed,
    Refused,
)


def named_in(module: object) -> dict[str, type[MiddlewareError]]:
    found = vars(module).items()
    return {name: cls for name, cls in found if isinstance(cls, type) and issubclass(cls, MiddlewareError)}


def test_the_tree_at_the_top_of_the_file_names_every_error_below_its_parent() -> None:
    assert errors.__doc__ is not None
    drawn: dict[str, int] = {}
    parents: dict[str, str] = {}
    for line in errors.__doc__.splitlines():
        name = line.lstrip(" │├└─").split(" ")[0]
        if name in named_in(errors):
            drawn[name] = line.index(name)
            above = [other for other, column in drawn.items() if column < drawn[name]]
            parents[name] = above[-1] if above else "Exception"
    assert parents == {name: cls.__bases__[0].__name__ for name, cls in named_in(errors).items()}


def test_every_fault_is_kept_and_the_number_is_einval_where_none_is_given() -> None:
    refused = Refused(("a", "is wrong"), ("b", "is there already", errno.EEXIST))
    assert refused.problems == (("a", "is wrong", errno.EINVAL), ("b", "is there already", errno.EEXIST))
    assert str(refused) == "a: is wrong; b: is there already"


@pytest.mark.parametrize(
    ("failed", "number"),
    [
        (NotAuthenticated(), 207),
        (NotAuthorized(), errno.EACCES),
        (NotActive("B", []), errno.EROFS),
        (NoRole("why"), errno.EBUSY),
        (ConfigBehind("why"), 210),
        (OutcomeUnknown("r"), errno.ETIMEDOUT),
    ],
)
def test_each_call_that_failed_has_the_number_that_clients_know(failed: CallFailed, number: int) -> None:
    assert failed.errno == number
    assert str(failed) == failed.reason


def test_a_standby_says_where_the_active_controller_answers() -> None:
    sent = NotActive("B", ["http://10.0.0.9", "http://[fd00::9]"])
    assert sent.reason == "Controller B is standby; the active controller is at http://10.0.0.9, http://[fd00::9]"
    assert sent.extra == {"active_urls": ["http://10.0.0.9", "http://[fd00::9]"], "node": "B"}
    assert NotActive("B", ()).reason == "Controller B is standby; the active controller is not known at the moment"


def test_what_a_program_needs_to_go_on_is_in_extra() -> None:
    assert NoRole("no role yet", 2.5).extra == {"retry_after_s": 2.5}
    assert ConfigBehind("seq 4 is missing").extra == {"code": "CONFIG_BEHIND"}
    assert ConfigBehind("seq 4 is missing").reason == "CONFIG_BEHIND: seq 4 is missing"
    assert OutcomeUnknown("r-1").extra == {"request_id": "r-1"}
    assert "r-1" in OutcomeUnknown("r-1").reason


def test_damage_names_the_file_and_the_record_or_the_file_alone() -> None:
    assert str(LogDamaged("/d/log.db", 4, "bad hash")) == "/d/log.db: seq 4: bad hash"
    assert str(LogDamaged("/d/log.db", 0, "no database")) == "/d/log.db: no database"


def test_a_port_that_refuses_says_what_for() -> None:
    assert str(PortFailed("write the hosts file", "read-only file system")) == (
        "write the hosts file: read-only file system"
    )
