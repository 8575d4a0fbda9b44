"""Every chat template of tests/golden/templates against jinja2, as transformers configures it: all texts equal."""

import io
import os
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "tools"))
import template_oracle  # noqa: E402


@pytest.fixture(scope="session")
def program(binary):
    """Built beside the worker: it renders many templates with the same library."""
    path = Path(os.environ.get("ORCD_TEMPLATE_RENDER") or binary.with_name("template_render"))
    assert path.is_file(), f"{path} is missing: build the target template_render"
    return path


def test_templates_equal_jinja2(program):
    paths = sorted(template_oracle.TEMPLATES.glob("*.jinja"))
    assert len(paths) >= 40
    report = io.StringIO()
    n, n_equal, n_texts = template_oracle.compare(program, paths, out=report)
    print(report.getvalue(), end="")
    assert n_equal == n, report.getvalue()
    assert n_texts >= n // 2  # most conversations suit most templates
