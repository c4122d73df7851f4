from __future__ import annotations

import sys
from pathlib import Path

from middlewared.lab.layout import Layout
from middlewared.lab.programs import ours, services_for


def test_each_controller_runs_the_build_that_was_named_for_it_and_else_this_one(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    programs = ours(layout, {"B": "/opt/older"})
    of_a, of_b = ([service.argv[0] for service in services_for(programs, layout, node)] for node in ("A", "B"))
    of_a, of_b = ([path for path in argvs if path != "sh"] for argvs in (of_a, of_b))
    assert of_b == [f"/opt/older/bin/{name}" for name in ("middlewared-fenced", "middlewared-carpd", "middlewared")]
    assert of_a == [str(Path(sys.executable).parent / Path(path).name) for path in of_b]
