"""A private PostgreSQL from the installed programs (Debian: apt install postgresql): tests, benchmarks."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


class NoPostgres(Exception):
    """Why there can be none here."""


class Cluster:
    """A cluster in a folder of its own, reached by a socket in it; run by the user `postgres` where this is
    root, because PostgreSQL refuses to be root.

    durable: commits are on the disk when they return (fsync), as on a real server. Raises NoPostgres.
    """

    def __init__(self, *, durable: bool) -> None:
        found = [shutil.which("initdb"), *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")))]
        programs = [Path(path).parent for path in found if path]
        if not programs:
            raise NoPostgres("PostgreSQL is not installed")
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        # A socket's path must be short.
        made = subprocess.run(
            [*self._as_user, "mktemp", "-d", "/tmp/akpg-XXXXXX"], capture_output=True, text=True
        )
        if made.returncode:
            raise NoPostgres(f"cannot run PostgreSQL as another user: {made.stderr.strip()}")
        self.folder = made.stdout.strip()
        self.url = f"postgresql+psycopg://postgres@/postgres?host={self.folder}"
        self._options = f"-c listen_addresses='' -c fsync={'on' if durable else 'off'} -k {self.folder}"
        self._pg_ctl = [str(programs[-1] / "pg_ctl"), "-D", f"{self.folder}/data", "-l", f"{self.folder}/log"]
        init = [
            str(programs[-1] / "initdb"),
            "-D",
            f"{self.folder}/data",
            "-A",
            "trust",
            "-U",
            "postgres",
            "-N",
        ]
        self._run(init)

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._run([*self._pg_ctl, "-w", "-o", self._options, "start"])

    def stop(self) -> None:
        """Stop it at once, as when its machine goes away."""
        self._run([*self._pg_ctl, "-w", "-m", "immediate", "stop"])

    def remove(self) -> None:
        """Stop it and delete its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, command: list[str]) -> None:
        subprocess.run([*self._as_user, *command], check=True, capture_output=True)
