"""The options of a trainer's config class, read from its source: importing TRL takes seconds, `ast` does not.

TRL's own dataclasses accept any type for any option, so names, types and the values of enumerations are
checked here against the annotations that the class and its bases carry.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

from alignment.errors import UserError

# Options that another section of the config sets, or that would do nothing here.
ELSEWHERE = {
    "output_dir": "run.dir",
    "seed": "run.seed",
    "data_seed": "run.seed",
    "report_to": "run.tracking",
    "run_name": "run.name",
    "resume_from_checkpoint": "the --resume flag",
    "model_init_kwargs": "the model section",
    "trust_remote_code": "the model section",
    "dataset_kwargs": "the data section",
    "dataset_text_field": "the data section",
    "chat_template_path": "the chat template in the model's folder",
    "pad_token": "the tokenizer in the model's folder",
    "eos_token": "the tokenizer in the model's folder",
    "torch_compile_backend": "torch_compile: each layer is compiled by PyTorch's default backend",
    "torch_compile_mode": "torch_compile: each layer is compiled in PyTorch's default mode",
    "disable_tqdm": "nothing: progress is shown on terminals only",
    "do_train": "nothing: a stage always trains",
    "do_eval": "data.validation or data.validation_fraction",
    "do_predict": "alignkit evaluate",
    "push_to_hub": "nothing: alignkit uploads nothing; `alignkit export` makes the folder",
    "local_rank": "nothing: the launcher sets it",
}


def check_trainer(options: dict[str, Any], trainer_class: str, place: Any) -> dict[str, Any]:
    """Return `options`, values brought to the declared types; UserError at the first wrong key or value.

    trainer_class: "module:Class", never imported. place(key) -> str says where in which file a key stands.
    """
    known = trainer_options(trainer_class)
    checked = {}
    for key, value in options.items():
        if key in ELSEWHERE:
            raise UserError(f"{place(key)}: trainer.{key} is not set here; use {ELSEWHERE[key]}")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            name = trainer_class.partition(":")[2]
            raise UserError(f"{place(key)}: unknown key 'trainer.{key}', {name} has no such option{hint}")
        module, annotation = known[key]
        try:
            checked[key] = _fit(value, annotation, module)
        except _Unfit:
            names = sorted(set(_names(annotation, module)))
            hint = _near(value, names)
            raise UserError(
                f"{place(key)}: trainer.{key} must be {' or '.join(names)}, got {value!r}{hint}"
            ) from None
    return checked


def trainer_options(trainer_class: str) -> dict[str, tuple[str, ast.expr]]:
    """Option name -> (module that declares it, its annotation), of "module:Class" and its bases."""
    module, name = trainer_class.split(":")
    return dict(_options(module, name))


@cache
def _options(module: str, name: str) -> dict[str, tuple[str, ast.expr]]:
    home, node = _find_class(module, name)
    options: dict[str, tuple[str, ast.expr]] = {}
    for base in reversed(node.bases):
        if isinstance(base, ast.Name) and base.id != "object":
            options.update(_options(home, base.id))
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            if item.target.id.startswith("_") or "ClassVar" in ast.unparse(item.annotation):
                continue
            annotation: ast.expr = item.annotation
            if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
                annotation = ast.parse(annotation.value, mode="eval").body
            options[item.target.id] = (home, annotation)
    return options


@cache
def _source(module: str) -> tuple[ast.Module, bool]:
    """The parsed source of a module, found without importing it, and whether it is a package."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the package {top!r} is not installed; install alignkit with its dependencies")
    for location in spec.submodule_search_locations:
        base = Path(location, *rest)
        for path, package in ((base / "__init__.py", True), (base.with_suffix(".py"), False)):
            if path.is_file() and (package or rest):
                return ast.parse(path.read_text(encoding="utf-8")), package
    raise UserError(
        f"the module {module!r} is not in the installed {top!r}; install the versions alignkit asks for"
    )


@cache
def _find_class(module: str, name: str) -> tuple[str, ast.ClassDef]:
    """Follow imports (also those under TYPE_CHECKING) from `module` to the class statement of `name`."""
    tree, package = _source(module)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _find_class(_absolute(node, module, package), alias.name)
    raise LookupError(f"no class {name} in {module}")


def _absolute(node: ast.ImportFrom, module: str, package: bool) -> str:
    if node.level == 0:
        return node.module or ""
    parts = module.split(".")
    parent = parts[: len(parts) - node.level + (1 if package else 0)]
    return ".".join([*parent, *([node.module] if node.module else [])])


class _Unfit(Exception):
    """The value is not of the annotated type."""


def _fit(value: Any, annotation: ast.expr, module: str) -> Any:
    """The value in the annotated type (an int for a float becomes one, a string for list[str] a list)."""
    arms = _arms(annotation)
    values = [text for arm in arms for text in _enum_values(arm, module)]
    for arm in arms:
        name = ast.unparse(arm)
        if name == "Any":
            return value
        if isinstance(arm, ast.Constant) and arm.value is None:
            if value is None:
                return None
        elif name == "bool":
            if isinstance(value, bool):
                return value
        elif name == "int":
            if isinstance(value, int) and not isinstance(value, bool):
                return value
        elif name == "float":
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value) if not isinstance(value, int) else value
        elif name == "str":
            if isinstance(value, str) and (not values or value in values):
                return value
        elif name.startswith("dict"):
            if isinstance(value, dict):
                return value
        elif name.startswith("list"):
            if isinstance(value, list):
                inner = arm.slice if isinstance(arm, ast.Subscript) else ast.Name("Any")
                return [_fit(item, inner, module) for item in value]
            if name == "list[str]" and isinstance(value, str):
                return [value]
        elif isinstance(arm, ast.Subscript) and ast.unparse(arm.value) == "Literal":
            if any(value is choice or value == choice for choice in ast.literal_eval(_tuple(arm.slice))):
                return value
        elif isinstance(value, str) and value in values:
            return value
    raise _Unfit


def _names(annotation: ast.expr, module: str) -> list[str]:
    """What an annotation asks for, in words."""
    words = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a string"}
    names: list[str] = []
    arms = _arms(annotation)
    values = [text for arm in arms for text in _enum_values(arm, module)]
    for arm in arms:
        name = ast.unparse(arm)
        if isinstance(arm, ast.Constant) and arm.value is None:
            names.append("null")
        elif isinstance(arm, ast.Subscript) and ast.unparse(arm.value) == "Literal":
            names += [repr(choice) for choice in ast.literal_eval(_tuple(arm.slice))]
        elif name.startswith("list"):
            names.append(f"a list ({name})")
        elif name.startswith("dict"):
            names.append("a mapping")
        elif name == "str" and values:
            continue
        elif name in words:
            names.append(words[name])
    return names + [repr(value) for value in values]


def _arms(annotation: ast.expr) -> list[ast.expr]:
    """The members of a union annotation `A | B | None`, `Optional[A]` or `Union[A, B]`."""
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return _arms(annotation.left) + _arms(annotation.right)
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in ("Optional", "Union"):
        members = [arm for item in _tuple(annotation.slice).elts for arm in _arms(item)]
        return members + ([ast.Constant(None)] if ast.unparse(annotation.value) == "Optional" else [])
    return [annotation]


def _tuple(node: ast.expr) -> ast.Tuple:
    return node if isinstance(node, ast.Tuple) else ast.Tuple([node], ast.Load())


def _enum_values(arm: ast.expr, module: str) -> list[str]:
    """The strings of an enumeration class, empty for any other annotation."""
    if not isinstance(arm, ast.Name) or arm.id in ("int", "float", "str", "bool", "dict", "list", "Any"):
        return []
    try:
        _, node = _find_class(module, arm.id)
    except LookupError:
        return []
    constants = (item.value for item in node.body if isinstance(item, ast.Assign))
    return [
        item.value for item in constants if isinstance(item, ast.Constant) and isinstance(item.value, str)
    ]


def _near(value: Any, names: list[str]) -> str:
    near = difflib.get_close_matches(repr(value), names, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""
