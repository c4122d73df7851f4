"""What an event of one version looks like, as it stands in tests/golden/shapes.json.

python -m tests.golden.shape      adds the shapes of kinds and versions that are not there yet; changes none
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from middlewared.engine import registry
from middlewared.kernel.event import Event
from middlewared.kernel.tenure import TermBegan

FILE = Path(__file__).with_name("shapes.json")


def written() -> list[type[Event]]:
    """Every event class of this build."""
    return [TermBegan, *(cls for noun in registry.load().nouns.values() for cls in noun.events)]


def name(cls: type[Event]) -> str:
    return f"{cls.kind} {cls.version}"


def of(cls: type[Event]) -> Any:
    """The JSON schema without its words."""
    return _bare(msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(cls))))


def _bare(schema: Any) -> Any:
    if isinstance(schema, dict):
        words = ("title", "description") if "properties" in schema or "type" in schema else ()
        return {key: _bare(value) for key, value in schema.items() if key not in words}
    return [_bare(part) for part in schema] if isinstance(schema, list) else schema


def recorded() -> dict[str, Any]:
    return dict(msgspec.json.decode(FILE.read_bytes()))


def main() -> None:
    known = recorded() if FILE.exists() else {}
    made = {name(cls): of(cls) for cls in written()} | known
    FILE.write_bytes(msgspec.json.format(msgspec.json.encode(made, order="sorted"), indent=1) + b"\n")


if __name__ == "__main__":
    main()
