"""Two controllers that ask each other, over a wire of bytes in memory."""

from __future__ import annotations

import asyncio
import errno

import pytest

from middlewared.engine.peer import Peer, Questions
from middlewared.engine.standin import MemoryEngine, dispatcher
from middlewared.kernel.errors import CallFailed, PortFailed, Refused
from middlewared.plugin import PeerCall, Plugin, peer
from middlewared.protocol import replication_frames as frames
from middlewared.protocol.peer_calls import FEATURE, Answer, Ask
from middlewared.shell.clock import SystemClock


@peer("test.echo")
async def echo(call: PeerCall, n: int, text: str = "none") -> dict[str, object]:
    return {"node": call.node, "n": n, "text": text}


@peer("test.fail")
async def fail(call: PeerCall, how: str) -> None:
    raise {
        "refused": Refused(("n", "is negative")),
        "failed": CallFailed(errno.EEXIST, "There is one"),
        "port": PortFailed("read it", "no disk"),
    }.get(how, RuntimeError("a secret detail"))


@peer("test.wait")
async def wait(call: PeerCall) -> None:
    await asyncio.Event().wait()


@peer("test.set")
async def unencodable(call: PeerCall) -> object:
    return object()


PLUGIN = Plugin(name="test", peer=(echo, fail, wait, unencodable))


class Two:
    """The asker and the answerer, and the line between them."""

    def __init__(self) -> None:
        clock = SystemClock()
        self.here, self.there = Peer(clock), Peer(clock)
        answers, _, _ = dispatcher(PLUGIN)
        self.there.answer_by(Questions(answers))

    def connect(self, features: frozenset[str] = frozenset({FEATURE})) -> None:
        self.here.line_up(self.to_there, features)
        self.there.line_up(self.to_here, features)

    def to_there(self, frame: Ask | Answer) -> None:
        self._carry(self.there, frame)

    def to_here(self, frame: Ask | Answer) -> None:
        self._carry(self.here, frame)

    def _carry(self, end: Peer, frame: Ask | Answer) -> None:
        carried = frames.decode(frames.encode(frame))
        assert isinstance(carried, Ask | Answer)
        asyncio.get_running_loop().call_soon(end.got, carried)


@pytest.fixture
async def two() -> Two:
    made = Two()
    made.connect()
    return made


async def test_a_question_is_answered_by_the_other_controllers_plugin(two: Two) -> None:
    assert await two.here.ask("test.echo", 4) == {"node": "A", "n": 4, "text": "none"}


async def test_questions_wait_side_by_side(two: Two) -> None:
    slow = asyncio.create_task(two.here.ask("test.wait"))
    await asyncio.sleep(0)
    assert await two.here.ask("test.echo", 1, "x") == {"node": "A", "n": 1, "text": "x"}
    assert not slow.done()
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)


@pytest.mark.parametrize(
    ("how", "number", "sentence"),
    [
        ("refused", errno.EINVAL, "n: is negative"),
        ("failed", errno.EEXIST, "There is one"),
        ("port", errno.EIO, "read it: no disk"),
        ("fault", errno.EFAULT, "The other controller failed at test.fail; its log says why"),
    ],
)
async def test_what_goes_wrong_there_is_raised_here(two: Two, how: str, number: int, sentence: str) -> None:
    with pytest.raises(CallFailed) as error:
        await two.here.ask("test.fail", how)
    assert (error.value.errno, error.value.reason) == (number, sentence)


async def test_a_question_with_wrong_parameters_is_refused_with_every_fault(two: Two) -> None:
    with pytest.raises(CallFailed, match="n: must be a whole number, not a string"):
        await two.here.ask("test.echo", "four")


async def test_an_answer_that_cannot_be_written_is_a_fault_of_the_other_controller(two: Two) -> None:
    with pytest.raises(CallFailed) as error:
        await two.here.ask("test.set")
    assert error.value.errno == errno.EFAULT


async def test_a_question_that_the_other_version_does_not_know_says_so(two: Two) -> None:
    with pytest.raises(CallFailed, match=r"Controller A runs a version that does not know the question test\.later"):
        await two.here.ask("test.later")


async def test_a_slow_peer_is_waited_for_no_longer_than_was_said(two: Two) -> None:
    with pytest.raises(CallFailed) as error:
        await two.here.ask("test.wait", timeout_s=0.05)
    assert error.value.errno == errno.ETIMEDOUT


async def test_a_line_that_closes_ends_the_question_at_once(two: Two) -> None:
    asked = asyncio.create_task(two.here.ask("test.wait", timeout_s=60))
    await asyncio.sleep(0.01)
    two.here.line_down(two.to_there)
    two.there.line_down(two.to_here)
    with pytest.raises(CallFailed) as error:
        await asked
    assert error.value.errno == errno.ENOTCONN
    assert two.there._tasks == {}


async def test_an_older_line_that_closes_late_ends_nothing(two: Two) -> None:
    two.here.line_down(two.to_here)
    assert await two.here.ask("test.echo", 4) == {"node": "A", "n": 4, "text": "none"}


async def test_a_peer_without_the_feature_is_not_asked() -> None:
    two = Two()
    two.connect(features=frozenset())
    with pytest.raises(CallFailed) as error:
        await two.here.ask("test.echo", 4)
    assert error.value.errno == errno.EOPNOTSUPP


async def test_the_peer_of_an_engine_in_memory_answers_what_the_test_says() -> None:
    _, engine, _ = dispatcher(PLUGIN)
    assert isinstance(engine, MemoryEngine)
    engine.peer["test.echo"] = {"n": 4}
    assert await engine.ask_peer("test.echo", 1) == {"n": 4}
    with pytest.raises(CallFailed, match="not connected"):
        await engine.ask_peer("test.wait")
