"""A labeling database, on SQLite and, where its programs are installed, PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from labeling_app.store.database import Store


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL: ALIGNKIT_TEST_POSTGRES, or a cluster made here by the installed programs."""
    pytest.importorskip("psycopg")
    if given := os.environ.get("ALIGNKIT_TEST_POSTGRES"):
        yield given
        return
    found = [shutil.which("initdb"), *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")))]
    programs = [Path(path).parent for path in found if path]
    if not programs:
        pytest.skip("PostgreSQL is not installed, and ALIGNKIT_TEST_POSTGRES names none")
    # PostgreSQL refuses to run as root, and a socket's path must be short.
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    made = subprocess.run([*as_user, "mktemp", "-d", "/tmp/akpg-XXXXXX"], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"cannot run PostgreSQL as another user: {made.stderr.strip()}")
    folder = made.stdout.strip()
    start = [*as_user, str(programs[-1] / "pg_ctl"), "-D", f"{folder}/data", "-w", "-l", f"{folder}/log"]
    init = [
        *as_user,
        str(programs[-1] / "initdb"),
        "-D",
        f"{folder}/data",
        "-A",
        "trust",
        "-U",
        "postgres",
        "-N",
    ]
    subprocess.run(init, check=True, capture_output=True)
    options = f"-c listen_addresses='' -c fsync=off -k {folder}"
    subprocess.run([*start, "-o", options, "start"], check=True, capture_output=True)
    try:
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        subprocess.run([*start, "-m", "immediate", "stop"], check=True, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty SQLite database."""
    made = Store(f"sqlite:///{tmp_path / 'labels.db'}", create=True)
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty database of either kind."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'labels.db'}"
    else:
        url = request.getfixturevalue("postgres")
    made = Store(url, create=True)
    yield made
    if request.param == "postgresql":
        made.downgrade("base")
    made.close()
