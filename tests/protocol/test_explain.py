"""Why a controller is what it is: the rule, and what it rests on."""

from __future__ import annotations

from middlewared.protocol.explain import explain
from middlewared.protocol.failover import RULES
from tests.protocol.failover_views import NOW, owner, silent, view


def test_the_rule_is_told_with_its_number_its_sentence_and_what_it_serves() -> None:
    found = explain(owner(), NOW, NOW + 0.2)
    assert RULES[found.number - 1].name == found.rule == "OWNS"
    assert found.inputs_age_s == 0.2 and found.verdict == "OWN"
    assert explain(silent(0.5), NOW, NOW).serves


def test_each_fact_has_its_age_and_what_nobody_watches_is_unknown() -> None:
    inputs = {fact.name: fact for fact in explain(view(), NOW, NOW).inputs}
    assert (inputs["heartbeat on the interlink"].value, inputs["heartbeat on the interlink"].age_s) == ("heard", 0.02)
    assert inputs["holders"].value == "0: A in term 5, 1: A in term 5, 2: A in term 5"
    deaf = {fact.name: fact for fact in explain(view(heard=None, heard_since=None), NOW, NOW).inputs}
    assert not deaf["heartbeat on the interlink"].known and not deaf["what A says"].known
