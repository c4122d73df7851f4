from __future__ import annotations

from middlewared.kernel.facts import PerNode, other


def test_each_controllers_other_is_the_other() -> None:
    assert (other("A"), other("B")) == ("B", "A")


def test_each_controller_takes_its_own_value() -> None:
    values = PerNode(A="left", B="right")
    assert (values.of("A"), values.of("B")) == ("left", "right")
