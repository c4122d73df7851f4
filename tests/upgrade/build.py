"""Another revision of this product, installed beside this one in a virtual environment of its own.

What it depends on is taken from the environment that runs this: the environment's site-packages come behind its own.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]
_TIMEOUT_S = 120.0


def install(revision: str, directory: Path) -> Path:
    """Check `revision` out and install it below `directory`. Returns the virtual environment."""
    source, made = directory / f"src-{revision}", directory / f"venv-{revision}"
    source.mkdir(parents=True)
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", revision], capture_output=True, timeout=_TIMEOUT_S, check=True
    )
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive.stdout, timeout=_TIMEOUT_S, check=True)
    _run(sys.executable, "-m", "venv", "--without-pip", str(made))
    python = made / "bin" / "python"
    own = Path(_run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = (sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check")
    _run(*pip, "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", str(source))
    return made


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout
