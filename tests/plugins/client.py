"""A session at a dispatcher, and the short way to call."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

from middlewared.engine.dispatch import Dispatcher
from middlewared.protocol.session import Session


class Client:
    """roles: of the user who is logged in; none at all: nobody is."""

    def __init__(self, api: Dispatcher, *roles: str, local_root: bool = False) -> None:
        self._api = api
        self._ids = count(1)
        origin = "unix:0" if local_root else "10.0.0.9:5"
        self.session = Session(id="s", origin=origin, local_root=local_root, new_id=str)
        if roles:
            self.session.log_in("eva", frozenset(roles))

    async def call(self, method: str, *params: object) -> Any:
        """The result, or `data` of the error."""
        text = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": next(self._ids)})
        answer = await self._api.answer(self.session, text, lambda: None)
        assert answer is not None
        reply = json.loads(answer)
        return reply["result"] if "result" in reply else reply["error"]["data"]
