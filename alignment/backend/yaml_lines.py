"""YAML read so that an error can name the line: 1.2 scalars, no duplicate keys, a line for every key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from alignment.errors import UserError

KeyPath = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """PyYAML with the scalars of YAML 1.2: `1e-5` is a number, `no` is a string, `010` is no octal number."""


_SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?(?:0|[1-9][0-9_]*)", list("-+0123456789")),
    "float": (
        r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?|[-+]?\.[0-9]+(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
}
_Loader.yaml_implicit_resolvers = {}
for _kind, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), _first)


def read_yaml(text: str, where: str) -> tuple[Any, dict[KeyPath, int]]:
    """Return the value that `text` holds and the line (from 1) of every key and list item in it.

    `where` is the file name for errors. Raises UserError for text that is not YAML and for a key given twice.
    """
    loader = _Loader(text)
    lines: dict[KeyPath, int] = {}
    try:
        node = loader.get_single_node()
        value = None if node is None else _value(loader, node, (), lines, where)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise UserError(f"{where}, line {line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not valid YAML: {error}") from None
    finally:
        loader.dispose()
    return value, lines


def _value(loader: _Loader, node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], where: str) -> Any:
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
        return [_value(loader, item, (*path, index), lines, where) for index, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node)
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key in result:
            first = lines[(*path, key)]
            dotted = ".".join(str(part) for part in (*path, key))
            raise UserError(
                f"{where}, line {line}: the key {dotted!r} is given twice (first in line {first})"
            )
        lines[(*path, key)] = line
        result[key] = _value(loader, value_node, (*path, key), lines, where)
    return result


def write_yaml(value: Any, path: Path) -> None:
    """Write plain data (dicts, lists, scalars) to `path` as YAML, keys in the given order."""
    path.write_text(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110), encoding="utf-8")
