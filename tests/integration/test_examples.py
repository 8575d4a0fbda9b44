"""The examples and the programs of docs/FFI_GUIDE.md, built and run: each gives the tokens of the command line."""

import json
import re
import subprocess
import sys

import pytest

from native import REPO, run

PROMPT, N_TOKENS = "The sky is", 16
GUIDE = REPO / "docs" / "FFI_GUIDE.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def expected(binary, smollm2):
    """What `run` says, as the examples print it."""
    answer = json.loads(subprocess.run(
        [str(binary), "run", "--model", str(smollm2), "--device", "cpu", "--prompt", PROMPT, "--temperature", "0", "--max-tokens",
         str(N_TOKENS), "--json"], capture_output=True, text=True, check=True).stdout)
    assert len(answer["token_ids"]) == N_TOKENS
    return {"text": answer["text"], "tokens": " ".join(map(str, answer["token_ids"])), "logits": answer["logits_digest"]}


@pytest.fixture(scope="module")
def crate(native):
    return native.cargo()


def check_output(stdout, expected):
    assert stdout == f"{expected['text']}\ntokens: {expected['tokens']}\nlogits: {expected['logits']}\n"


@pytest.mark.core
@pytest.mark.parametrize("source", ["c/generate.c", "cpp/generate.cpp"])
def test_c_and_cpp(native, smollm2, expected, source):
    program = native.compile(REPO / "examples" / source)
    check_output(run([program, smollm2, PROMPT, N_TOKENS], native.env).stdout, expected)
    failed = run([program, "no such file", PROMPT, N_TOKENS], native.env, expect=1)
    assert "ORCD_STATUS_MODEL_LOAD_FAILED" in failed.stderr and "no such file" in failed.stderr
    run([program], native.env, expect=2)


@pytest.mark.core
def test_python(native, smollm2, expected):
    command = [sys.executable, REPO / "examples" / "python" / "generate.py"]
    check_output(run([*command, smollm2, PROMPT, N_TOKENS], native.python_env()).stdout, expected)
    assert "ORCD_STATUS_MODEL_LOAD_FAILED" in run([*command, "none", PROMPT, N_TOKENS], native.python_env(), expect=1).stderr


@pytest.mark.core
def test_rust(native, smollm2, expected, crate):
    program = crate / "generate"
    check_output(run([program, smollm2, PROMPT, N_TOKENS], native.preloaded_env()).stdout, expected)
    assert "check the path" in run([program, "none", PROMPT, N_TOKENS], native.preloaded_env(), expect=1).stderr


@pytest.mark.core
def test_orchestrator(native, binary, smollm2, expected):
    command = [sys.executable, REPO / "examples" / "orchestrator" / "spawn_and_execute.py", binary]
    stdout = run([*command, smollm2, PROMPT, N_TOKENS], native.env).stdout
    assert stdout == f"{expected['text']}\ntokens_out: {N_TOKENS}\nlogits: {expected['logits']}\ncancelled: CANCELLED\n"
    failed = run([*command, "no such file", PROMPT, N_TOKENS], native.env, expect=1)
    assert "MODEL_LOAD_FAILED" in failed.stderr


COMMANDS = re.compile(r"^(?://!?)? {2,}(\w.*(?:\\\n.*)?(?:MODEL\.gguf|-o generate).*)$", re.MULTILINE)


@pytest.mark.plain
@pytest.mark.parametrize("source", ["c/generate.c", "cpp/generate.cpp", "python/generate.py", "rust/src/bin/generate.rs",
                                    "orchestrator/spawn_and_execute.py"])
def test_the_commands_at_the_head_of_an_example_run_it(native, smollm2, expected, tmp_path, source):
    head = "\n".join((REPO / "examples" / source).read_text(encoding="utf-8").split("\n")[:8])
    commands = [re.sub(r"\\\n//!", "", command) for command in COMMANDS.findall(head)]
    assert len(commands) == (2 if source.startswith("c") else 1), head
    for name, target in (("include", REPO / "include"), ("examples", REPO / "examples"), ("build/release", native.library_folder.parent)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(target)
    env = {**native.env, "CARGO_TARGET_DIR": str(tmp_path / "target")}
    del env["LD_LIBRARY_PATH"]
    script = "\n".join(commands).replace("MODEL.gguf", f"'{smollm2}'")
    result = run(["sh", "-ec", f"cd '{tmp_path}'\n{script}"], env)
    assert expected["text"] in result.stdout and f"logits: {expected['logits']}" in result.stdout


# Each program of the guide, and the output that stands below it.
BLOCKS = FENCE.findall(GUIDE.read_text(encoding="utf-8"))
PROGRAMS = [(language, code, BLOCKS[i + 1]) for i, (language, code) in enumerate(BLOCKS) if language not in ("text", "sh")]


def test_the_guide_has_programs_in_every_language_and_says_what_they_print():
    assert {language for language, _, _ in PROGRAMS} == {"c", "cpp", "python", "rust"}
    assert all(output[0] == "text" for _, _, output in PROGRAMS)


@pytest.mark.parametrize("index", range(len(PROGRAMS)), ids=[f"{i}-{language}" for i, (language, _, _) in enumerate(PROGRAMS)])
def test_a_program_of_the_guide_prints_what_stands_below_it(native, smollm2, crate, tmp_path, index):
    language, code, (_, output) = PROGRAMS[index]
    source = tmp_path / f"guide{index}.{dict(python='py', rust='rs').get(language, language)}"
    source.write_text(code, encoding="utf-8")
    env = native.env
    if language == "python":
        command, env = [sys.executable, source], native.python_env()
    elif language == "rust":
        command = [tmp_path / "program"]
        run(["rustc", "--edition", "2021", "-D", "warnings", source, "--extern", f"orcd={crate / 'liborcd.rlib'}", "-L",
             f"native={native.library_folder}", "-o", command[0]], env)
        env = native.preloaded_env()
    else:
        command = [native.compile(source)]
    assert run([*command, smollm2], env).stdout == output


def test_the_guides_commands_install_build_and_run_a_program(native, smollm2, tmp_path):
    commands, = [code for language, code in BLOCKS if language == "sh"]
    for name, target in (("build/release", native.library_folder.parent), (f"models/{smollm2.name}", smollm2)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).symlink_to(target)
    _, code, (_, output) = PROGRAMS[0]
    (tmp_path / "program.c").write_text(code, encoding="utf-8")
    # Nothing but the commands may tell where the library is.
    env = {name: value for name, value in native.env.items() if name not in ("LD_LIBRARY_PATH", "PKG_CONFIG_PATH")} | {"HOME": str(tmp_path)}
    assert run(["sh", "-ec", f"cd '{tmp_path}'\n{commands}"], env).stdout.endswith(f"\n{output}")
