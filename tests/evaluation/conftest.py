"""Every report that a test of this folder makes is held against the schema that users are given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest
from jsonschema import Draft202012Validator


@pytest.fixture(scope="session")
def schema() -> Draft202012Validator:
    text = (resources.files("alignment.evaluation") / "report.schema.json").read_text(encoding="utf-8")
    content = json.loads(text)
    Draft202012Validator.check_schema(content)
    return Draft202012Validator(content)


@pytest.fixture(scope="session", autouse=True)
def reports_keep_to_the_schema(schema: Draft202012Validator) -> Iterator[None]:
    from alignment.evaluation import report

    real = report.build_report

    def build_report(*args: Any, **named: Any) -> dict[str, Any]:
        made = real(*args, **named)
        problems = [
            f"{problem.json_path}: {problem.message[:300]}"
            for problem in schema.iter_errors(json.loads(json.dumps(made)))
        ]
        assert not problems, "alignment/evaluation/report.schema.json does not say so:\n" + "\n".join(
            problems
        )
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "build_report", build_report)
        yield
