"""The code in documents runs as it stands there."""

import json
import re
import subprocess
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


def test_the_requests_of_the_readme_are_answered(smollm2_worker, capsys):
    readme = (REPO / "README.md").read_text(encoding="utf-8").replace("127.0.0.1:8080", f"127.0.0.1:{smollm2_worker.port}")
    commands = re.findall(r"^```sh\n(curl .*?)^```", readme, re.DOTALL | re.MULTILINE)
    answers = [subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout for command in commands]
    assert len(answers) == 2 and "event: end\n" in answers[0]
    content = json.loads(answers[1])["choices"][0]["message"]["content"]
    assert content
    programs = re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    printed = []
    for program in programs:
        exec(compile(program, "README.md", "exec"), {})
        printed.append(capsys.readouterr().out)
    assert len(printed) == 2 and "Paris" in printed[0] and "'stop_reason'" in printed[0]
    assert printed[1] == content


def test_the_request_of_the_openai_page_is_answered(smollm2_worker):
    page = (REPO / "docs/OPENAI.md").read_text(encoding="utf-8").replace("127.0.0.1:8080", f"127.0.0.1:{smollm2_worker.port}")
    (command,) = re.findall(r"^```sh\n(curl .*?)^```", page, re.DOTALL | re.MULTILINE)
    answer = json.loads(subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout)
    assert answer["object"] == "chat.completion" and answer["usage"]["completion_tokens"] <= 32


SMOLLM2 = {
    "n_layers": 30, "dim": 576, "ffn_dim": 1536, "n_heads": 9, "n_kv_heads": 3, "head_dim": 64, "n_vocab": 49152,
    "context": 2048, "slots": 4, "batch_tokens": 512, "logits_rows": 4, "pages": 128,
}  # fmt: skip


def test_the_vram_guides_numbers_are_the_plans(binary, smollm2):
    command = [binary, "plan", "--model", smollm2, "--device", "cpu", "--ctx", "2048", "--slots", "4", "--batch-tokens", "512"]
    result = subprocess.run([*map(str, command), "--json"], capture_output=True, text=True, check=True)
    plan = json.loads(result.stdout)
    bytes_of = {item["name"]: item["bytes"] for item in plan["items"]}
    assert plan["kv_pages"] == SMOLLM2["pages"]
    guide = (REPO / "docs/VRAM_DEBUGGING_GUIDE.md").read_text(encoding="utf-8")
    for name, value in SMOLLM2.items():
        assert name == "pages" or f"{name} = {value}" in guide
    rows = re.findall(r"^\| `([^`]+)`[^|]*\| `([^`]+)` \| ([\d,]+) \|$", guide, re.MULTILINE)
    assert len(rows) == 9
    for item, formula, stated in rows:
        assert eval(formula, {}, SMOLLM2) == int(stated.replace(",", "")) == bytes_of[item], item


def test_every_test_of_the_checklist_exists():
    """Each line names a test or a check of scripts/lint, and each name is that of one."""
    checklist = (REPO / "docs/INTEGRATION_CHECKLIST.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| (?!line \|)(.+) \| (.+) \|$", checklist, re.MULTILINE)
    assert len(lines) > 35
    assert [line for line, held_by in lines if not re.search(r"`(?:[A-Z]\w+\.[A-Z]|test_|replay_|scripts/lint`)", held_by)] == []
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (REPO / "tests").rglob("*") if path.suffix in (".cpp", ".py", ".txt"))
    names = re.findall(r"`((?:[A-Z]\w+\.[A-Z]\w+)|(?:test_\w+)|(?:replay_\w+))`", checklist)
    assert len(set(names)) > 80
    for name in names:
        if "." in name:
            suite, test = name.split(".")
            assert re.search(rf"TEST(?:_[FP])?\(\s*{suite},\s*{test}\)", sources), name
        elif name.startswith("replay_"):
            assert (REPO / "tests/fuzz/corpus" / name.removeprefix("replay_")).is_dir(), name
        else:
            assert re.search(rf"^def {name}\(", sources, re.MULTILINE), name
