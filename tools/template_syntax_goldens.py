#!/usr/bin/env python3
"""Writes tests/golden/templates/syntax.json: what jinja2, configured as transformers configures it, makes of each turn of the
template language, or null where it raises."""

import argparse
import json
from pathlib import Path

import template_oracle

DEFAULT_OUT = template_oracle.TEMPLATES / "syntax.json"
VARIABLES = {"x": 3, "s": "héy", "l": [1, 2, 3, 4], "d": {"a": 1, "b": {"c": [5, 6]}}, "n": None, "f": 1.5, "t": True}

# One a line; the two refuse the same, but for what docs/HTTP.md says of templates.
TEMPLATES = r"""
{{ 1_000 }} {{ 0x1F }} {{ 0o17 }} {{ 0b101 }} {{ 0X_1f }} {{ 1.5e3 }} {{ 2E-2 }} {{ 1e+2 }} {{ 1.25 }} {{ 1_0.2_5 }}
{{ 1.e }}
{{ 1e }}
{{ 0x }}
{{ 0b12 }}
{{ 012 }}
{{ 00 }}
{{ l.0 }} {{ l.1 }}
{{ d.b.c.1 }}
{{ "\x41\u00e9\U0001F600\101\7\n\t\\\'\"\a\q" }}
{{ "\x4" }}
{{ "\u12G4" }}
{{ "\U00110000" }}
{{ "abc\
def" }}
{{ 'it''s' 'joined' "up" }}
{{ "open
{{ "open\
{{ x ? 1 }}
{{ x; }}
{{ é }}
{{ (1, 2) }} {{ () }} {{ (1,) }} {{ 1, 2 }} {{ (1) }}
{{ (1 }}
{{ [1 }}
{{ {1 }}
{{ 1) }}
{{ [1) }}
{{ [1, 2,] }} {{ [] }} {{ [[1], [2]] }}
{{ [1 2] }}
{{ {"a": 1, "b": 2,} }} {{ {} }} {{ {1: 2, none: 3, true: 4, 1.5: 5} }}
{{ {"a" 1} }}
{{ {"a": 1 "b": 2} }}
{{ l[0] }} {{ l[-1] }} {{ l[1:] }} {{ l[:2] }} {{ l[::2] }} {{ l[1:3:1] }} {{ l[:] }} {{ l[::-1] }} {{ l[1::] }}
{{ l[1 }}
{{ d[1, 2] }}x
{{ l[1:2, 3] }}x
{{ d["a"] }} {{ d.a }} {{ d['b']['c'] }} {{ d.b.c[0] }}
{{ d. }}
{{ d.1x }}
{{ 1 + 2 * 3 ** 2 // 4 % 5 - -1 }} {{ +x }} {{ 7 / 2 }} {{ 2 ** 3 ** 2 }} {{ -2 ** 2 }}
{{ 1 ~ "a" ~ n ~ true }}
{{ 1 ~ }}
{{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} {{ 1 == 1.0 }} {{ "a" != "b" }} {{ 2 >= 2 <= 3 }}
{{ 1 in l }} {{ 9 not in l }} {{ "é" in s }} {{ "z" not in s }} {{ "a" in d }}
{{ not t }} {{ not not t }} {{ t and n }} {{ n or x }} {{ t and not n or x }}
{{ not }}
{{ x not l }}
{{ 1 if t else 2 }} {{ 1 if n else 2 }} [{{ 1 if n }}] {{ 1 if t if t else 3 else 4 }} {{ 1 if n else 2 if n else 3 }}
{{ x is number }} {{ x is not string }} {{ s is string }} {{ n is none }} {{ x is divisibleby 3 }} {{ x is divisibleby(2) }}
{{ x is eq 3 }} {{ x is not eq 4 }} {{ x is in l }} {{ x is in [1, 3] }} {{ "a" is in d }} {{ x is gt 2 and t }} {{ x is gt 2 or n }}
{{ 1 if x is defined else 2 }} {{ nope is defined }} {{ nope is undefined }} {{ l is sequence }} {{ d is mapping }} {{ l is iterable }}
{{ x is number is number }}
{{ x is nosuch }}
{{ x is }}
{{ x | nosuch }}
{{ x | }}
{% if false %}{{ x | nosuch }}{% endif %}kept
{% if false %}{{ x is nosuch }}{% endif %}kept
{{ x | nosuch if false else 1 }}
{{ s | upper | lower | length }} {{ l | join(", ") }} {{ l | map("string") | join("-") }} {{ s | replace("h", "j") }}
{{ l | join }} {{ l | first }} {{ l | last }} {{ d | length }} {{ l | sum }} {{ (l | sum)(1) }}
{{ d.get("a") }} {{ d.get("z", 7) }} {{ d.items() | list }} {{ s.upper() }} {{ s.split("é")[0] }} {{ "a b".split() }}
{{ range(3) | list }} {{ range(1, 7, 2) | list }} {{ range(*[1, 3]) | list }} {{ dict(a=1, **{"b": 2}) }} {{ dict(a=1,) }}
{{ dict(a=1, 2) }}
{{ range(1 2) }}
{{ range(1 }}
{{ s.upper( }}
{{ x.y.z }}
{{ nope.y }}
{{ nope }}|{{ d.nope }}|{{ l[9] }}|
{{ "a" if t }}{{ "b" -}}   c
a   {{- 1 -}}   b
a {%- if t %} b {% endif -%} c
  {% if t +%}
a{% endif %}
  {%+ if t %}a{% endif %}
{{ 1 +}}
x {# a comment #} y {#- another -#} z {#+ third +#} w
{# open
{# #}after
{% raw %}{{ x }}{% if %}{% endraw %}
{%- raw -%}  {{ x }}  {%- endraw -%}  y
{% raw +%}x{% endraw %}
{% raw %}a  {%- endraw +%}
b
{% raw %}a{%+ endraw %}b{% raw %}{% endraw %}c
{% raw %}a{% endrawer %}b{% endraw %}
{% raw %}a{% endraw b %}c{% endraw %}
{% raw x %}a{% endraw %}
{% rawer %}
{% raw %}a
{% raw
{%
{% if %}a{% endif %}
{% if x %}a{% elif l %}b{% else %}c{% endif %}{% if n %}a{% elif n %}b{% else %}c{% endif %}{% if n %}a{% elif t %}b{% endif %}
{% if x %}a{% else %}b{% elif t %}c{% endif %}
{% if x %}a
{% if x %}a{% endfor %}
{% if x, l %}tuple{% endif %}
{% endif %}
{% else %}
{% 1 %}
{% nosuch x %}
{% for i in l %}{{ i }}{{ "," if not loop.last }}{% endfor %} {% for a, b in d.items() %}{{ a }}{% endfor %}
{% for i in [] %}a{% else %}empty{% endfor %}{% for i in l if i > 2 %}{{ i }}{% endfor %}{% for i in 1, 2 %}{{ i }}{% endfor %}
{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for i in l recursive %}{{ i }}{% endfor %}{% for i in [[1], [2]] recursive %}{{ loop(i) if i is sequence else i }}{% endfor %}
{% for i in l if t recursive %}{{ i }}{% endfor %}
{% for i l %}{% endfor %}
{% for in l %}{% endfor %}
{% for 1 in l %}{% endfor %}
{% for (a in l %}{% endfor %}
{% for true in l %}{% endfor %}
{% for None in l %}{% endfor %}
{% for i in l %}a
{% for i in l %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}
{% break %}
{% continue %}
{% for i in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}
{% for i in l %}{% else %}{% break %}{% endfor %}
{% set a = 1 %}{{ a }}{% set b, c = 2, 3 %}{{ b }}{{ c }}{% set (e, g) = (4, 5) %}{{ e }}{{ g }}{% set h = 1, 2 %}{{ h }}
{% set a %}text {{ x }}{% endset %}{{ a }}{% set b | upper %}abc{% endset %}{{ b }}{% set c | upper | lower %}Abc{% endset %}{{ c }}
{% set ns = namespace(a=1) %}{% for i in l %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}
{% set ns.a = 1 %}
{% set x.y = 1 %}
{% set 1 = 2 %}
{% set a = %}
{% set true = 1 %}
{% set a
{% macro m(a, b=2, *c) %}{% endmacro %}
{% macro m(a, b=2) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(1, b=4) }}{{ m(1, 2, 3, z=5) }}
{% macro k() %}k{% endmacro %}{{ k() }}
{% macro m(a=1, b) %}{% endmacro %}
{% macro m(a b) %}{% endmacro %}
{% macro m a %}{% endmacro %}
{% macro 1() %}{% endmacro %}
{% macro m(varargs) %}{{ varargs }}{% endmacro %}{{ m(1) }}
{% macro m(a=x) %}{{ a }}{% endmacro %}{{ m() }}{% macro o() %}{{ caller() }}{% endmacro %}{% call o() %}in{% endcall %}
{% macro o() %}[{{ caller(1, 2) }}]{% endmacro %}{% call(a, b=3) o() %}{{ a }}{{ b }}{% endcall %}
{% macro o() %}{{ caller is defined }}{% endmacro %}{{ o() }}{% macro p() %}{% if caller %}c{% else %}n{% endif %}{% endmacro %}{{ p() }}{% call p() %}{% endcall %}
{% macro o() %}{% for i in l %}{{ varargs[0] if loop.first }}{% endfor %}{% endmacro %}{{ o(9) }}{% macro p() %}{% if t %}{{ kwargs.a }}{% elif kwargs %}{% endif %}{% endmacro %}{{ p(a=8) }}
{% macro o() %}{% if n %}{% elif varargs %}v{% endif %}{% endmacro %}{{ o(1) }}{% macro p() %}{% with q = varargs %}{{ q }}{% endwith %}{% endmacro %}{{ p(1) }}
{% macro o() %}{% for i in [] %}{% else %}{{ varargs }}{% endfor %}{% endmacro %}{{ o(1) }}{% macro p() %}{% for i in l if varargs %}{{ i }}{% endfor %}{% endmacro %}{{ p(1) }}
{% macro o() %}{{ dict(a=varargs) }}{% endmacro %}{{ o(1) }}{% macro p() %}{% macro q(z=varargs) %}{{ z }}{% endmacro %}{{ q() }}{% endmacro %}{{ p(1) }}
{% call x %}{% endcall %}
{% call %}{% endcall %}
{% filter upper %}abc{% endfilter %}{% filter upper | lower %}Abc{% endfilter %}{% filter replace("a", "b") %}aa{% endfilter %}
{% filter nosuch %}{% endfilter %}
{% filter %}{% endfilter %}
{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{% with %}w{% endwith %}{% with (a, b) = (3, 4) %}{{ a }}{{ b }}{% endwith %}
{% with a = 1 b = 2 %}{% endwith %}
{% with a %}{% endwith %}
{% generation %}g{{ x }}{% endgeneration %}
{% generation %}{% break %}{% endgeneration %}
{% for i in l %}{% generation %}{% break %}{% endgeneration %}{% endfor %}
{% generation %}g
{{ {"é": "😀\u007f\u0001\n", "k": [1.5, none, true, false, -3]} | tojson }} {{ {"a": [], "b": {}} | tojson(indent=2) }}
{{ {"é": "😀"} | tojson(ensure_ascii=true) }} {{ {"b": 1, "a": 2} | tojson(sort_keys=true) }} {{ [1, 2] | tojson(separators=(",", ":")) }}
{{ {none: 1, true: 2, false: 5, 3: 4, 1.5: 6} | tojson }} {{ (1, 2) | tojson }} {{ 1e308 * 10 }} {{ (1e308 * 10) | tojson }} {{ (-1e308 * 10) | tojson }} {{ (1e308 * 10 - 1e308 * 10) | tojson }}
{{ {(1, 2): 1} | tojson }}
{{ range(2) | tojson }}
{{ nope | tojson }}
{{ x
{{ }}
{{ x }
{% if x }}
a
{{ x y }}
{{ x,, }}
{{ 'a' b }}
{% set l = [1] %}{{ l }}{{ "%s" % 1 }}{{ "a" * 3 }}{{ [1] + [2] }}
{{ (x)(1) }}
{{ x is eq 3.5 }}{{ d is eq {"a": 1} }}{{ x is eq x }}{{ 1 if x is number or n }}{{ x is number and t }}{{ x is lt 4 if t }}
{{ 1, in }}
{% for i in 1, recursive %}{{ i }}{% endfor %}
{% set (a,) = [1] %}{{ a }}
{{ l[1:2:, 3] }}
{{ l[:, 1] }}
{{ dict(*[], a=1) }}{{ dict(*[], **{"a": 1}) }}
{{ x | a.b }}
{{ x is a.b }}
{% macro m(a, b,) %}
{% macro m(a=1, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ m() }}
{{ "\1018" }}{{ "\18" }}{{ "\7" }}
{{ "a\x4
{{ "\1
{{ 1
{{ 1e
{{ 1e+
{{ 0
{{ ab
{{ 0x1
{{ 1.5
{{ l[0
{{ {"~": "~"} | tojson(ensure_ascii=true) }}{{ "aé" | tojson(ensure_ascii=true) }}
{%
{% raw %}{%
{% raw %}{% endraw
{{ x }}{% endraw %}
{{
{% if x %}{{ 1
{{ "x".upper()() }}
{{ true.x }} {{ True }} {{ none }} {{ None }} {{ False }}
{{ "a".join(["x", "y"]) is string }} {{ l is not sequence }} {{ x is odd }} {{ x is even }} {{ f is float }} {{ x is integer }} {{ t is boolean }} {{ t is true }} {{ t is false }}
{{ loop }}
""".strip("\n")


SEVERAL_LINES = ["a\n  {% if t %}\nb\n  {% endif %}\nc\n", "{% raw %}\n  a\n  {% endraw %}\nb", "x\r\ny\rz {{ s }}\n\n", "\n{{ x\n}}\n",
                 "{% if t %}\n\n{% endif %}\n", "{{ 'a\\\nb' }}", "{#\ncomment\n#}\nb", "  {% raw %} a {% endraw %}\n", "{% set a %}\nb\n{% endset %}[{{ a }}]"]


def golden() -> str:
    env = template_oracle.environment()
    cases = []
    for template in [*TEMPLATES.split("\n"), *SEVERAL_LINES]:
        try:
            text = env.from_string(template).render(**VARIABLES)
        except Exception:  # whatever it says: that it refuses is what counts
            text = None
        cases.append({"template": template, "text": text})
    body = ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases)
    return f'{{"variables": {json.dumps(VARIABLES)}, "cases": [\n{body}\n]}}\n'


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT_OUT, metavar="FILE")
    parser.parse_args().file.write_text(golden(), encoding="utf-8")
