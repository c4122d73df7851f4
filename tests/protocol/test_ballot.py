"""Ballots over registers in memory, with every order of messages that chance gives."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middlewared.kernel.facts import Node
from middlewared.kernel.register import Denied, Granted, Holding, Register, Silent
from middlewared.protocol.ballot import (
    Action,
    Ballot,
    Claim,
    Lost,
    Mandate,
    Message,
    Read,
    Release,
    Start,
    State,
    Tick,
    WasClaimed,
    WasRead,
    WasReleased,
    Won,
)
from middlewared.protocol.quorum import Quorum

VOTERS = ("0", "1", "2")


def mandate(node: Node = "A", known: int = 0, *, forced: bool = False) -> Mandate:
    return Mandate(node=node, known_term=known, forced=forced)


def holding(term: int, owner: Node | None, generation: int = 1) -> Holding:
    return Holding(term=term, owner=owner, generation=generation)


def read_all(machine: Ballot, *holdings: Holding | Silent, now: float = 0.0) -> tuple[Action, ...]:
    """Start, and tell what each voter holds; the actions of the last."""
    assert machine.receive(Start(), now) == tuple(Read(voter) for voter in VOTERS)
    actions: tuple[Action, ...] = ()
    for voter, held in zip(VOTERS, holdings, strict=True):
        actions = machine.receive(WasRead(voter, held), now)
    return actions


def granted(machine: Ballot, voter: str, now: float = 0.0) -> tuple[Action, ...]:
    term = machine.term
    return machine.receive(WasClaimed(voter, term, Granted(holding(term, "A", 2))), now)


def denied(machine: Ballot, voter: str, by: Holding, now: float = 0.0) -> tuple[Action, ...]:
    return machine.receive(WasClaimed(voter, machine.term, Denied(by)), now)


FREE = holding(0, None, 0)


class TestATerm:
    def test_it_is_one_above_the_highest_that_anybody_knows(self) -> None:
        machine = Ballot(mandate(known=3), Quorum((VOTERS,)))
        claims = read_all(machine, holding(5, "B"), holding(2, None), FREE)
        assert claims == (
            Claim("0", 6, holding(5, "B")),
            Claim("1", 6, holding(2, None)),
            Claim("2", 6, FREE),
        ), "each voter is claimed over what it said"

    def test_the_floor_counts_as_well(self) -> None:
        machine = Ballot(mandate(known=9), Quorum((VOTERS,)))
        assert {c.term for c in read_all(machine, FREE, FREE, FREE) if isinstance(c, Claim)} == {10}

    def test_a_majority_of_grants_wins_it_and_later_grants_change_nothing(self) -> None:
        machine = Ballot(mandate(), Quorum((VOTERS,)))
        read_all(machine, FREE, FREE, FREE)
        assert granted(machine, "0") == ()
        assert granted(machine, "2") == (Won(1),)
        assert machine.state is State.WON
        assert granted(machine, "1") == ()
        assert machine.deadline() is None


class TestReading:
    def test_a_majority_of_readings_goes_on_after_the_grace(self) -> None:
        machine = Ballot(mandate(), Quorum((VOTERS,)), grace_s=0.03)
        machine.receive(Start(), 1.0)
        machine.receive(WasRead("0", FREE), 1.1)
        assert machine.deadline() == 2.0
        assert machine.receive(WasRead("1", FREE), 1.2) == ()
        assert machine.deadline() == pytest.approx(1.23)
        assert machine.receive(Tick(), 1.23) == (Claim("0", 1, FREE), Claim("1", 1, FREE))

    @pytest.mark.parametrize("won", [False, True])
    def test_a_voter_that_is_read_late_is_claimed_too(self, won: bool) -> None:
        machine = Ballot(mandate(), Quorum((VOTERS,)))
        machine.receive(Start(), 0.0)
        machine.receive(WasRead("0", FREE), 0.0)
        machine.receive(WasRead("1", FREE), 0.0)
        machine.receive(Tick(), 0.03)
        granted(machine, "0")
        if won:
            assert granted(machine, "1") == (Won(1),)
        assert machine.receive(WasRead("2", holding(0, "B")), 0.05) == (Claim("2", 1, holding(0, "B")),)

    def test_without_a_majority_of_readings_it_is_lost_and_nothing_was_claimed(self) -> None:
        machine = Ballot(mandate(), Quorum((VOTERS,)), pauses_s=(0.1,))
        assert read_all(machine, FREE, Silent("cut"), Silent("cut")) == (Lost("only 1 of 3 disks answered", 0),)

    def test_a_rival_that_took_a_majority_unknown_to_the_decision_ends_it(self) -> None:
        machine = Ballot(mandate(known=4), Quorum((VOTERS,)))
        actions = read_all(machine, holding(5, "B"), holding(5, "B"), holding(4, "A"))
        assert actions == (Lost("the peer took term 5 meanwhile", 5),)

    def test_an_owner_that_heard_of_the_rivals_term_before_it_saw_the_majority_gives_way(self) -> None:
        machine = Ballot(Mandate(node="A", known_term=7, own_term=6), Quorum((VOTERS,)))
        actions = read_all(machine, holding(7, "B"), holding(7, "B"), holding(6, "A"))
        assert actions == (Lost("the peer took term 7 meanwhile", 7),)

    def test_an_owner_goes_over_a_claim_that_the_rival_lost(self) -> None:
        machine = Ballot(Mandate(node="A", known_term=7, own_term=6), Quorum((VOTERS,)))
        actions = read_all(machine, holding(7, "B"), holding(6, "A"), holding(6, "A"))
        assert [type(action) for action in actions] == [Claim, Claim, Claim]

    def test_a_forced_ballot_goes_over_such_a_rival(self) -> None:
        machine = Ballot(mandate(known=4, forced=True), Quorum((VOTERS,)))
        claims = read_all(machine, holding(5, "B"), holding(5, "B"), holding(4, "A"))
        assert [type(action) for action in claims] == [Claim] * 3


class TestAHolderThatFreesTheDisksMeanwhile:
    def test_it_is_claimed_over_what_the_disk_holds_now_without_a_pause(self) -> None:
        machine = Ballot(mandate(known=5), Quorum((VOTERS,)), pauses_s=(0.05,))
        read_all(machine, holding(5, "B"), holding(5, "B"), holding(5, None, 2))
        freed = holding(5, None, 2)
        assert denied(machine, "0", freed) == (Claim("0", 6, freed),)
        assert granted(machine, "2") == ()
        assert granted(machine, "0") == (Won(6),)

    def test_a_disk_that_was_free_before_or_was_freed_from_this_term_is_a_rivals(self) -> None:
        machine = Ballot(mandate(known=5), Quorum((VOTERS,)), pauses_s=(0.05,))
        read_all(machine, holding(5, "B"), holding(5, None), holding(5, None))
        assert denied(machine, "0", holding(6, None, 3)) == ()
        denied(machine, "1", holding(5, None, 3))
        assert machine.state is State.PAUSING


class TestALostTry:
    def test_it_releases_what_was_granted_or_may_have_been_pauses_and_tries_a_higher_term(self) -> None:
        machine = Ballot(mandate(), Quorum((VOTERS,)), pauses_s=(0.05,))
        read_all(machine, FREE, FREE, FREE)
        granted(machine, "0")
        denied(machine, "1", holding(1, "B"))
        assert denied(machine, "2", holding(1, "B"), now=7.0) == (Release("0", 1),)
        assert machine.state is State.PAUSING
        assert machine.deadline() == pytest.approx(7.05)
        assert machine.receive(Tick(), 7.05) == tuple(Read(voter) for voter in VOTERS)
        assert machine.receive(WasRead("0", holding(1, None)), 7.05) == ()
        machine.receive(WasRead("1", holding(1, None)), 7.05)
        claims = machine.receive(WasRead("2", holding(1, "B")), 7.05)
        assert {c.term for c in claims if isinstance(c, Claim)} == {2}

    def test_after_the_last_pause_it_is_lost(self) -> None:
        machine = Ballot(mandate(), Quorum((VOTERS,)))
        read_all(machine, FREE, FREE, FREE)
        denied(machine, "1", holding(1, "B"))
        assert denied(machine, "2", holding(1, "B")) == (Release("0", 1), Lost("a rival was faster for term 1", 1))

    def test_silence_of_a_majority_loses_it_at_once_and_releases_what_may_be_ours(self) -> None:
        machine = Ballot(mandate(), Quorum((VOTERS,)), pauses_s=(0.1,))
        read_all(machine, FREE, FREE, FREE)
        granted(machine, "0")
        machine.receive(WasClaimed("1", 1, Silent("cut")), 0.0)
        actions = machine.receive(WasClaimed("2", 1, Silent("cut")), 0.0)
        assert actions == (Release("0", 1), Release("1", 1), Release("2", 1), Lost("2 of 3 disks fell silent", 1))

    def test_an_owner_that_fails_to_renew_keeps_its_own_keys(self) -> None:
        machine = Ballot(mandate(known=4), Quorum((VOTERS,)))
        read_all(machine, holding(4, "A"), holding(4, "A"), FREE)
        granted(machine, "0")
        denied(machine, "1", holding(5, "B"))
        actions = denied(machine, "2", holding(5, "B"))
        assert [action for action in actions if isinstance(action, Release)] == []

    def test_an_answer_to_an_earlier_try_counts_for_nothing(self) -> None:
        machine = Ballot(mandate(), Quorum((VOTERS,)), pauses_s=(0.1,))
        read_all(machine, FREE, FREE, FREE)
        denied(machine, "1", holding(1, None))
        denied(machine, "2", holding(1, None))
        machine.receive(Tick(), 0.1)
        for voter in VOTERS:
            machine.receive(WasRead(voter, holding(1, None)), 0.1)
        assert machine.receive(WasClaimed("0", 1, Granted(holding(1, "A"))), 0.1) == ()
        assert machine.state is State.CLAIMING


class TestWithoutVoters:
    def test_only_a_forced_ballot_is_won(self) -> None:
        assert Ballot(mandate(known=6, forced=True), Quorum()).receive(Start(), 0.0) == (Won(7),)
        (lost,) = Ballot(mandate(known=6), Quorum()).receive(Start(), 0.0)
        assert isinstance(lost, Lost)


class Contest:
    """Two ballots on shared registers; every message that is on its way arrives when chance says so, or never."""

    def __init__(self, seed: int, voters: int, loss: float) -> None:
        self.chance = random.Random(seed)
        self.names = tuple(str(number) for number in range(voters))
        self.registers = dict.fromkeys(self.names, Register())
        self.loss = loss
        self.won: dict[int, list[Node]] = {}
        self.now = 0.0

    def run(self, rounds: int) -> None:
        for _ in range(rounds):
            self.round(Quorum((self.names,)), Quorum((self.names,)))

    def round(self, a: Quorum, b: Quorum) -> None:
        """One contest, of an A and a B that decide by these."""
        ballots: dict[Node, Ballot] = {"A": self.a_ballot("A", a), "B": self.a_ballot("B", b)}
        asked = [(node, action) for node in ballots for action in self.tell(node, ballots[node], Start())]
        answered: list[tuple[Node, Message]] = []
        while asked or answered or any(b.deadline() is not None for b in ballots.values()):
            self.step(ballots, asked, answered)

    def spread(self, names: tuple[str, ...]) -> None:
        """The owner writes the record on two of these disks, which it holds in its term then."""
        for name in self.chance.sample(names, 2):
            register = self.registers[name]
            if self.won and register.holding.term < max(self.won):
                self.registers[name], _ = register.claim(self.won[max(self.won)][0], max(self.won), register.holding)

    def a_ballot(self, node: Node, quorum: Quorum) -> Ballot:
        pauses_s = tuple(self.chance.random() for _ in range(self.chance.randrange(4)))
        return Ballot(mandate(node, forced=self.chance.random() < 0.8), quorum, pauses_s=pauses_s)

    def step(
        self, ballots: dict[Node, Ballot], asked: list[tuple[Node, Action]], answered: list[tuple[Node, Message]]
    ) -> None:
        """One thing happens: a question reaches its disk, an answer comes back, or a deadline passes."""
        pick = self.chance.randrange(len(asked) + len(answered) + 1)
        if pick < len(asked):
            node, action = asked.pop(pick)
            answered.append((node, self.at_the_disk(node, action)))
        elif pick - len(asked) < len(answered):
            node, message = answered.pop(pick - len(asked))
            asked += [(node, action) for action in self.tell(node, ballots[node], message)]
        else:
            node = self.chance.choice(("A", "B"))
            if ballots[node].deadline() is not None:
                asked += [(node, action) for action in self.tell(node, ballots[node], Tick())]

    def tell(self, node: Node, ballot: Ballot, message: Message) -> list[Action]:
        self.now += 0.001
        actions = ballot.receive(message, self.now)
        for action in actions:
            if isinstance(action, Won):
                self.won.setdefault(action.term, []).append(node)
        return [action for action in actions if not isinstance(action, Won | Lost)]

    def at_the_disk(self, node: Node, action: Action) -> Message:
        assert isinstance(action, Read | Claim | Release)
        register, lost = self.registers[action.voter], self.chance.random() < self.loss
        match action:
            case Read(voter=voter):
                return WasRead(voter, Silent("lost") if lost else register.holding)
            case Claim(voter=voter, term=term, over=over):
                # Lost on the way there or on the way back: the claim may have been carried out.
                if not (lost and self.chance.random() < 0.5):
                    self.registers[voter], answer = register.claim(node, term, over)
                return WasClaimed(voter, term, Silent("lost") if lost else answer)
            case Release(voter=voter, term=term):
                self.registers[voter], _ = register.release(node, term)
                return WasReleased(voter, Silent("lost"))


@given(st.integers(0, 2**32), st.sampled_from([3, 5]), st.sampled_from([0.0, 0.1, 0.4]))
@settings(max_examples=150, deadline=None)
def test_no_term_is_won_twice_whatever_is_lost_or_late(seed: int, voters: int, loss: float) -> None:
    contest = Contest(seed, voters, loss)
    contest.run(rounds=6)
    assert {term: nodes for term, nodes in contest.won.items() if len(nodes) > 1} == {}


OLD, NEW = ("0", "1", "2"), ("2", "3", "4")
STAGES = (Quorum((OLD,)), Quorum((OLD, NEW)), Quorum((NEW,)))


def change(contest: Contest, *, skip: bool = False) -> None:
    """The voters are changed under contests. skip: the new ones vote alone while somebody decides by the old ones."""
    old, both, new = STAGES
    contest.round(old, old)
    for a, b in ((old, new), (new, old)) if skip else ((both, old), (old, both), (both, both)):
        contest.round(a, b)
    contest.spread(NEW)
    for a, b in ((new, both), (both, new), (new, new)):
        contest.round(a, b)


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.1, 0.4]))
@settings(max_examples=150, deadline=None)
def test_no_term_is_won_twice_while_the_voters_are_changed(seed: int, loss: float) -> None:
    contest = Contest(seed, 5, loss)
    change(contest)
    assert {term: nodes for term, nodes in contest.won.items() if len(nodes) > 1} == {}


def test_new_voters_that_vote_alone_while_the_other_decides_by_the_old_ones_give_a_term_twice() -> None:
    twice = 0
    for seed in range(50):
        contest = Contest(seed, 5, 0.0)
        change(contest, skip=True)
        twice += any(len(nodes) > 1 for nodes in contest.won.values())
    assert twice


def test_while_both_vote_a_majority_of_one_wins_nothing() -> None:
    machine = Ballot(mandate(), STAGES[1])
    assert len(machine.receive(Start(), 0.0)) == 5
    for voter in ("0", "1", "2", "3", "4"):
        actions = machine.receive(WasRead(voter, FREE), 0.0)
    assert len(actions) == 5
    assert granted(machine, "0") == granted(machine, "1") == ()
    assert granted(machine, "2") == ()
    assert granted(machine, "3") == (Won(1),), "2 votes in both"


def test_in_the_contests_terms_are_won_by_both() -> None:
    contest = Contest(1, 3, 0.1)
    contest.run(rounds=60)
    winners = {node for nodes in contest.won.values() for node in nodes}
    assert winners == {"A", "B"}
