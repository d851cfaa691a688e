"""The SQLite file encrypted at rest, by SQLCipher: every page with AES-256, also of -wal files and backups.

The key comes from the environment and goes nowhere else: not into the database's URL, a log or an error.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from alignment.errors import UserError

KEY, KEY_FILE = "ALIGNKIT_LABEL_KEY", "ALIGNKIT_LABEL_KEY_FILE"
HEADER = b"SQLite format 3\x00"  # how a file starts that is not encrypted


def key_from_environment() -> str | None:
    """The key in ALIGNKIT_LABEL_KEY, or in the file that ALIGNKIT_LABEL_KEY_FILE names; None without.

    Raises UserError for an empty key and a file that cannot be read.
    """
    path = os.environ.get(KEY_FILE)
    if path is None:
        key = os.environ.get(KEY)
        where = KEY
    else:
        try:
            key = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{KEY_FILE}: {path!r} cannot be read ({type(error).__name__})") from None
        where = f"{KEY_FILE} ({path})"
    if key is not None and not key.strip():
        raise UserError(
            f"{where} is empty; make a key with `openssl rand -hex 32`, and keep a copy elsewhere"
        )
    return key


def cipher_module() -> Any:
    """The driver: the standard library's sqlite3 with SQLCipher in it."""
    try:
        from sqlcipher3 import dbapi2
    except ModuleNotFoundError:
        raise UserError(
            f"{KEY} is set, and an encrypted database needs SQLCipher: pip install 'alignkit[encrypted]'"
        ) from None
    return dbapi2


def key_statement(key: str) -> str:
    """The first statement of a connection. 64 hex digits are the key itself; anything else is a passphrase,
    from which SQLCipher derives one at every connection (PBKDF2, a fraction of a second)."""
    if re.fullmatch(r"[0-9a-fA-F]{64}", key):
        return f"PRAGMA key = \"x'{key}'\""
    quoted = key.replace("'", "''")
    return f"PRAGMA key = '{quoted}'"


def is_plain(path: Path) -> bool:
    """Whether a file is an SQLite database that anybody can read. False for one that is new or empty."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(HEADER)) == HEADER


def check_file(path: Path, key: str | None) -> None:
    """Raise UserError if a file that is there already does not go with having, or not having, a key."""
    if not path.is_file() or not path.stat().st_size:
        return
    plain = is_plain(path)
    if key is not None and plain:
        raise UserError(
            f"{path} is not encrypted, and {KEY} is set: encrypt it with `alignkit label restore {path} "
            f"--db sqlite:///NEW.db`, or unset the key"
        )
    if key is None and not plain:
        raise UserError(f"{path} is encrypted or no SQLite database: set {KEY} or {KEY_FILE} to its key")
