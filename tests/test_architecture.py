"""The house: imports point down, files stay readable, the command line starts light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAGES = {"sft", "dpo", "kto", "ppo", "rloo", "grpo", "evaluation", "reward"}
# room -> what it may import of ours. A room may always import itself.
BELOW = {
    "errors": set(),
    "stats": {"errors"},
    "data": {"errors", "stats"},
    "report": {"errors", "stats", "data"},
    "backend": {"errors", "stats", "data", "report"},
    **{stage: {"errors", "stats", "data", "report", "backend"} for stage in STAGES},
    "pipeline": {"errors", "stats", "data", "report", "backend"} | STAGES,
    "labeling_app": {"errors", "stats", "data", "report"},
}
BELOW["cli"] = {*BELOW, "labeling_app", "pipeline"}


def room_of(module: str) -> str | None:
    """The room of a dotted module of ours, else None: `alignment.data.files` is `data`."""
    parts = module.split(".")
    if parts[0] in ("reward", "labeling_app"):
        return parts[0]
    return parts[1] if parts[0] == "alignment" and len(parts) > 1 else None


def source_files() -> list[Path]:
    files = [p for top in ("alignment", "reward", "labeling_app") for p in (ROOT / top).rglob("*.py")]
    return [p for p in files if p != ROOT / "alignment" / "__init__.py"]


def imported_modules(path: Path) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module is not None
            found.append((node.lineno, node.module))
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


@pytest.mark.parametrize("path", source_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    room = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    assert room in BELOW, f"{path} is in no room of the house"
    for line, module in imported_modules(path):
        target = room_of(module)
        if target in BELOW and target != room:
            assert target in BELOW[room], f"{path}:{line} ({room}) imports {module} ({target})"


def test_the_package_init_is_empty() -> None:
    assert (ROOT / "alignment" / "__init__.py").read_text() == ""


def test_the_app_and_the_data_room_never_load_torch() -> None:
    code = (
        "import sys, alignment.data.files, alignment.data.views, alignment.data.quality, "
        "alignment.stats.intervals, labeling_app.server\n"
        "print(sorted({'torch', 'transformers', 'trl'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"
