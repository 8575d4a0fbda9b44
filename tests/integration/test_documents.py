"""The code in documents runs as it stands there."""

import re
import textwrap
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


def python_blocks(document: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (REPO / document).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("document", ["INTEGRATION_TEST_FRAMEWORK.md", "tests/README.md"])
def test_the_example_of_a_test_passes(document, worker, tiny, smollm2):
    fixtures = {"worker": worker, "tiny": tiny, "smollm2": smollm2}
    (block,) = python_blocks(document)
    names: dict = {}
    exec(compile(textwrap.dedent(block), document, "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        test(**{name: fixtures[name] for name in test.__code__.co_varnames[: test.__code__.co_argcount]})
