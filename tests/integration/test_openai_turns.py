"""Thoughts, tool calls and channels over HTTP: a scripted model writes them token by token, the official client reads them."""

import json

import openai
import pytest

from scripted_model import UNNAMED, Script, write_scripted_model
from worker_process import TIME_SCALE

TOOLS = [
    {"type": "function", "function": {"name": name, "description": "d", "parameters": {"type": "object", "properties": {}}}}
    for name in ("get", "put")
]
CALL = ("<tool_call>", '\n{"na', 'me": "get', '", "argu', 'ments": {"ci', 'ty": "K', b"\xc3", b"\xb6", 'ln"}', "}\n\n", "</tool_call>")
SCRIPTS = {
    "plain": Script("Just", " text", ", <b", ">", b"\xf0", b"\x9f", b"\x91", b"\x8b", "."),
    "think": Script("<think>", "\n", "Hm", ", 2 <", " 3.", "\n\n", "</think>", "\n\n\n", "Yes", "!"),
    "opened": Script("Well", ".", "\n", "</think>", "\n\n\n", "No", "!", opening="<think>\n"),
    "closed": Script("Done", ".", opening="<think>\n\n</think>\n\n"),
    "only thought": Script("<think>", "I", " wonder"),
    "call": Script("Let me", " see.", "\n", *CALL),
    "two calls": Script(*CALL, "\n", '<tool_call>{"name":"put","arguments":{}}</tool_', "call>"),
    "all": Script("<think>", "Look", "</think>", "\n\n", *CALL),
    "no call": Script("<tool_call>", "none", "</tool_call>"),
    "unnamed": Script("a", UNNAMED, b"\xc3", UNNAMED, b"\xb6", "."),
    "pick": Script(("A", "B", "C", "D"), ("1", "2", "3", "4"), ("x", "y", "z"), ("!", "?", "#")),
}
HARMONY_TOKENS = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>", "<|constrain|>"]
START = "<|start|>assistant"
ANALYSIS = ("<|channel|>", "analysis", "<|message|>", "User", " asks", ".", "<|end|>", "<|start|>", "assistant")
HARMONY_SCRIPTS = {
    "final": Script(*ANALYSIS, "<|channel|>", "final", "<|message|>", "It is", " so", ".", "<|return|>", opening=START),
    "call": Script(*ANALYSIS, "<|channel|>", "commentary", " to=", "functions", ".get", " ", "<|constrain|>", "json", "<|message|>",
                   '{"city"', ': "K', b"\xc3", b"\xb6", 'ln"}', "<|call|>", opening=START),
    "preamble": Script("<|channel|>", "commentary", "<|message|>", "I will", " look.", "<|end|>", "<|start|>", "assistant",
                       "<|channel|>", "commentary", " to=", "functions", ".put", "<|message|>", "{}", "<|call|>", opening=START),
}  # fmt: skip


@pytest.fixture(scope="module", params=["text marks", "control marks"])
def client(request, serve, tmp_path_factory):
    """The marks are user-defined tokens in most vocabularies, control tokens in some."""
    marks = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
    as_control = request.param == "control marks"
    path = tmp_path_factory.mktemp("scripted") / "scripted.gguf"
    write_scripted_model(path, SCRIPTS, control=marks if as_control else [], user_defined=[] if as_control else marks, mentions="</think>")
    return client_of(serve(path))


@pytest.fixture(scope="module")
def harmony(serve, tmp_path_factory):
    path = tmp_path_factory.mktemp("scripted") / "harmony.gguf"
    return client_of(serve(write_scripted_model(path, HARMONY_SCRIPTS, control=HARMONY_TOKENS)))


def client_of(worker):
    return openai.OpenAI(base_url=worker.base_url + "/v1", api_key="none", max_retries=0, timeout=60 * TIME_SCALE)


def assembled(chunks):
    """What a client of a stream of one choice puts together, checking the rules of deltas."""
    message = {"content": "", "reasoning": "", "calls": []}
    reason = None
    for chunk in chunks:
        (choice,) = chunk.choices
        assert reason is None, "nothing comes behind the end"
        delta, reason = choice.delta, choice.finish_reason
        said = delta.model_dump(exclude_unset=True)
        assert len(said) <= 1 or said == {"role": "assistant", "content": ""}, said
        message["content"] += delta.content or ""
        message["reasoning"] += getattr(delta, "reasoning_content", "") or ""
        for part in delta.tool_calls or []:
            if part.index == len(message["calls"]):
                assert part.id.startswith("call_") and part.type == "function" and part.function.arguments == ""
                message["calls"].append([part.function.name, ""])
            else:
                assert part.index == len(message["calls"]) - 1 and part.id is None and part.function.name is None
                message["calls"][-1][1] += part.function.arguments
    return message, reason


def ask(client, script, **options):
    """The answer, which must be the same whole and in chunks."""
    request = {"model": client.models.list().data[0].id, "messages": [{"role": "user", "content": script}], "temperature": 0, **options}
    whole = client.chat.completions.create(**request).choices[0]
    calls = [[call.function.name, call.function.arguments] for call in whole.message.tool_calls or []]
    message = {"content": whole.message.content or "", "reasoning": getattr(whole.message, "reasoning_content", ""), "calls": calls}
    assert assembled(client.chat.completions.create(**request, stream=True)) == (message, whole.finish_reason)
    assert (whole.message.content is None) == (bool(calls) and not message["content"])
    return message, whole.finish_reason


def said(content="", reasoning="", calls=()):
    return {"content": content, "reasoning": reasoning, "calls": [list(call) for call in calls]}


GET = ("get", '{"city": "Köln"}')
PUT = ("put", "{}")
LENGTH = {"max_tokens": 6}


@pytest.mark.core
def test_a_row_that_no_token_names_is_a_token_without_text(client):
    """Heads are padded to a round number of rows, and a tokenizer.json ends before them."""
    answer = ask(client, "unnamed", logprobs=True)
    assert answer == (said("aö."), "stop")
    model = client.models.list().data[0].id
    whole = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "unnamed"}], temperature=0, logprobs=True, top_logprobs=1
    )
    tokens = whole.choices[0].logprobs.content
    assert [bytes(token.bytes) for token in tokens] == [b"a", b"", b"\xc3", b"", b"\xb6", b"."]
    assert [bytes(token.top_logprobs[0].bytes) for token in tokens] == [bytes(token.bytes) for token in tokens]
    assert whole.usage.completion_tokens == 6


@pytest.mark.core
@pytest.mark.parametrize(
    "script, options, expected",
    [
        ("plain", {}, (said("Just text, <b>👋."), "stop")),
        ("plain", {"tools": TOOLS}, (said("Just text, <b>👋."), "stop")),
        ("think", {}, (said("Yes!", "Hm, 2 < 3."), "stop")),
        ("opened", {}, (said("No!", "Well."), "stop")),
        ("closed", {}, (said("Done."), "stop")),
        ("only thought", {}, (said("", "I wonder"), "stop")),
        ("think", LENGTH, (said("", "Hm, 2 < 3.\n\n"), "length")),
        ("call", {"tools": TOOLS}, (said("Let me see.", calls=[GET]), "tool_calls")),
        ("call", {"tools": TOOLS, "max_tokens": 8}, (said("Let me see.", calls=[("get", '{"ci')]), "length")),
        ("two calls", {"tools": TOOLS}, (said(calls=[GET, PUT]), "tool_calls")),
        ("two calls", {"tools": TOOLS, "parallel_tool_calls": False}, (said(calls=[GET]), "tool_calls")),
        ("all", {"tools": TOOLS, "tool_choice": "auto"}, (said("", "Look", [GET]), "tool_calls")),
        ("no call", {"tools": TOOLS}, (said("<tool_call>none</tool_call>"), "stop")),
        ("plain", {"stop": ["b>"]}, (said("Just text, <"), "stop")),
    ],
)
def test_a_turn_is_told_in_its_parts(client, script, options, expected):
    assert ask(client, script, **options) == expected


def test_without_tools_a_call_is_text(client):
    for options in ({}, {"tools": TOOLS, "tool_choice": "none"}):
        message, reason = ask(client, "call", **options)
        assert (message["calls"], reason) == ([], "stop") and '{"city": "Köln"}' in message["content"]


def test_tokens_of_a_thought_are_counted(client):
    model = client.models.list().data[0].id
    usage = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "think"}], temperature=0).usage
    assert (usage.completion_tokens, usage.completion_tokens_details.reasoning_tokens) == (10, 7)


def test_every_choice_has_its_own_calls_and_text(client):
    request = {"model": client.models.list().data[0].id, "n": 4, "temperature": 1, "seed": 1, "tools": TOOLS}
    for script, kinds in (("pick", 4), ("all", 1)):
        messages = [{"role": "user", "content": script}]
        whole = client.chat.completions.create(messages=messages, **request).choices
        assert len({c.message.content for c in whole}) == kinds
        chunks = list(client.chat.completions.create(messages=messages, **request, stream=True))
        for choice in whole:
            message, reason = assembled([c for c in chunks if c.choices[0].index == choice.index])
            assert (message["content"] or None, reason) == (choice.message.content, choice.finish_reason)
            assert len(message["calls"]) == len(choice.message.tool_calls or [])
    assert len({call.id for choice in whole for call in choice.message.tool_calls}) == 4


@pytest.mark.core
@pytest.mark.parametrize(
    "script, options, expected",
    [
        ("final", {}, (said("It is so.", "User asks."), "stop")),
        ("final", {"stop": [" so", "asks"]}, (said("It is", "User asks."), "stop")),
        ("final", {"max_tokens": 5}, (said("", "User asks"), "length")),
        ("call", {"tools": TOOLS}, (said("", "User asks.", [GET]), "tool_calls")),
        ("call", {}, (said('{"city": "Köln"}', "User asks."), "stop")),
        ("preamble", {"tools": TOOLS}, (said("I will look.", calls=[PUT]), "tool_calls")),
    ],
)
def test_the_channels_of_harmony_are_told_apart(harmony, script, options, expected):
    assert ask(harmony, script, **options) == expected


def test_a_conversation_with_a_tool_goes_on(client):
    """The round trip of an agent: what came back goes into the next request as it is."""
    model = client.models.list().data[0].id
    messages = [{"role": "user", "content": "call"}]
    answer = client.chat.completions.create(model=model, messages=messages, tools=TOOLS, temperature=0).choices[0].message
    (call,) = answer.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Köln"}
    messages += [answer, {"role": "tool", "tool_call_id": call.id, "content": "rain"}, {"role": "user", "content": "think"}]
    assert client.chat.completions.create(model=model, messages=messages, tools=TOOLS, temperature=0).choices[0].message.content == "Yes!"


def test_the_stream_helper_of_the_client_reads_tools_and_text(client):
    """client.chat.completions.stream() puts the deltas together itself, and is stricter than a loop over chunks."""
    model = client.models.list().data[0].id
    with client.chat.completions.stream(model=model, messages=[{"role": "user", "content": "call"}], tools=TOOLS, temperature=0) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_completion().choices[0]
    assert "content.done" in events and "tool_calls.function.arguments.done" in events
    assert (final.message.content, final.finish_reason) == ("Let me see.", "tool_calls")
    assert final.message.tool_calls[0].function.arguments == '{"city": "Köln"}'
