#!/usr/bin/env python3
"""Holds the worker's chat templates against jinja2, configured as transformers configures it.

    template_oracle.py --program build/release/bin/template_render [FILE.jinja ...]

Renders every template of tests/golden/templates (or those given) over the conversations below and some settings; the
texts must be equal byte for byte, and where jinja2 raises, so must the worker. Prints `N renderings, M equal` with the
first differences, and exits 1 when there is one. Needs: Jinja2.
"""

import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

TEMPLATES = Path(__file__).resolve().parents[1] / "tests" / "golden" / "templates"
NOW = 1753869600  # 2025-07-30

TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "The weather of a place, now & later: <fast>",
        "parameters": {"type": "object", "required": ["location"], "properties": {
            "location": {"type": "string", "description": "City, e.g. \"Zürich\""},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
            "days": {"type": "array", "items": {"type": "integer"}}}}}},
    {"type": "function", "function": {"name": "now", "description": "The time 時刻", "parameters": {
        "type": "object", "properties": {}, "x": None, "ratio": 1.5, "big": 1e22, "yes": True}}},
]

CONVERSATIONS = {
    "empty": [],
    "one": [{"role": "user", "content": "Hello"}],
    "system": [{"role": "system", "content": "  You are terse. \n"}, {"role": "user", "content": " Who are you?\n"}],
    "turns": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "1+1?"},
              {"role": "assistant", "content": "<think>\nsum\n</think>\n\n2"}, {"role": "user", "content": "times 3?"},
              {"role": "assistant", "content": "6"}, {"role": "user", "content": "thanks\n\n"}],
    "answered": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}],
    "unicode": [{"role": "system", "content": "Ünïcödé 日本語 \u00a0"},
                {"role": "user", "content": "👩\u200d👩\u200d👧 e\u0301 \u2028 שלום <b>&\"'\\n</b> \x7f\x1f ﬁ ß Σς"}],
    "tools": [{"role": "system", "content": "Use tools."}, {"role": "user", "content": "Weather in Zürich?"},
              {"role": "assistant", "content": None, "tool_calls": [
                  {"id": "abcdefghi", "type": "function", "function": {
                      "name": "get_weather", "arguments": {"location": "Zürich", "days": [1, 2], "q": None}}}]},
              {"role": "tool", "tool_call_id": "abcdefghi", "name": "get_weather", "content": "{\"t\": 21.5}"},
              {"role": "assistant", "content": "21.5 °C"}, {"role": "user", "content": "And tomorrow?"}],
    "two calls": [{"role": "user", "content": "Both"},
                  {"role": "assistant", "content": "", "tool_calls": [
                      {"id": "aaaaaaaaa", "type": "function", "function": {"name": "now", "arguments": {}}},
                      {"id": "bbbbbbbbb", "type": "function", "function": {"name": "now", "arguments": {"a": "<>"}}}]},
                  {"role": "tool", "tool_call_id": "aaaaaaaaa", "content": "12:00"},
                  {"role": "tool", "tool_call_id": "bbbbbbbbb", "content": "12:01"}],
    "parts": [{"role": "user", "content": [{"type": "text", "text": " Look "}, {"type": "image"},
                                           {"type": "text", "text": "there"}]}],
    "wrong order": [{"role": "assistant", "content": "I begin"}, {"role": "assistant", "content": "again"}],
    "long": [{"role": role, "content": f"{role} {i} " + "lorem ipsum \n" * 40}
             for i in range(30) for role in ("user", "assistant")] + [{"role": "user", "content": "end"}],
}

SETTINGS = [{"add_generation_prompt": True}, {"add_generation_prompt": False},
            {"add_generation_prompt": True, "tools": TOOLS}, {"add_generation_prompt": True, "enable_thinking": False},
            {"add_generation_prompt": False, "tools": TOOLS, "documents": [{"title": "t", "text": "d1"}, {"text": "d2"}]}]


class Generation(jinja2.ext.Extension):
    """{% generation %}: what transformers marks as said by an assistant."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: datetime.datetime.fromtimestamp(NOW).strftime(form)
    return env


def cases(paths):
    for path in paths:
        source = path.read_text(encoding="utf-8", newline="") if sys.version_info >= (3, 13) else \
            path.read_bytes().decode()
        for name, messages in CONVERSATIONS.items():
            for number, setting in enumerate(SETTINGS):
                variables = {"bos_token": "<s>", "eos_token": "</s>", "messages": messages, **setting}
                yield f"{path.stem} / {name} / {number}", source, variables


def render_all(program, work):
    lines = [json.dumps({"template": source, "variables": variables, "now": NOW}) for _, source, variables in work]
    result = subprocess.run([str(program)], input="\n".join(lines) + "\n", capture_output=True, text=True, check=True)
    return [json.loads(line) for line in result.stdout.splitlines()]


def expected(env, compiled, source, variables):
    """(text, None) or (None, error)"""
    try:
        if source not in compiled:
            compiled[source] = env.from_string(source)
        return compiled[source].render(**variables), None
    except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        return None, f"{type(error).__name__}: {error}"


def compare(program, paths, out=sys.stdout):
    """Number of renderings, of equal ones, and of those that gave a text."""
    env, compiled, work = environment(), {}, list(cases(paths))
    n_equal = n_texts = n_shown = 0
    for (name, source, variables), got in zip(work, render_all(program, work), strict=True):
        text, error = expected(env, compiled, source, variables)
        equal = "error" in got if text is None else got.get("text") == text
        n_equal += equal
        n_texts += text is not None
        if not equal and n_shown < 8:
            n_shown += 1
            print(f"  {name}\n    jinja2: {error or text!r}\n    worker: {got!r}"[:4000], file=out)
    print(f"{len(work)} renderings, {n_equal} equal, {n_texts} texts", file=out)
    return len(work), n_equal, n_texts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("files", nargs="*", type=Path)
    args = parser.parse_args()
    n, n_equal, _ = compare(args.program, args.files or sorted(TEMPLATES.glob("*.jinja")))
    return 0 if n == n_equal else 1


if __name__ == "__main__":
    sys.exit(main())
