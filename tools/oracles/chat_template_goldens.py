#!/usr/bin/env python3
"""Writes what transformers' apply_chat_template gives for the templates in tests/golden/text/chat/templates.

    chat_template_goldens.py tests/golden/text/chat
Needs: pip install transformers==5.23.0 jinja2==3.1.6. Written beside the templates:
  conversations.json  60 conversations
  expected.json       their texts under each template (of long ones behind the first the SHA-256), spans of {% generation %} in bytes,
                      the message of raise_exception, or that Python raises something else
  probes.json         the texts of small templates, each for one thing of the language (chat_template_probes.py)
"""
import datetime
import hashlib
import json
import os
import pathlib
import sys

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import jinja2
import transformers
import transformers.utils.chat_template_utils as templates

from chat_template_probes import PROBES

assert (transformers.__version__, jinja2.__version__) == ("5.23.0", "3.1.6"), (transformers.__version__, jinja2.__version__)

LONG = 1000
FULL = 16  # texts kept whole of each template; each kind of conversation is among the first
SPECIAL = {"bos_token": "<|bos|>", "eos_token": "<|eos|>", "pad_token": "<|pad|>"}


class March(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2025, 3, 4, 17, 8, 9)


templates.datetime = March


def render(template, conversation):
    """As apply_chat_template does: keys without a value go, special tokens are variables, and so are the extra arguments."""
    messages = [{k: v for k, v in message.items() if v is not None} for message in conversation["messages"]]
    try:
        texts, spans = templates.render_jinja_template(
            conversations=[messages], tools=conversation.get("tools"), documents=conversation.get("documents"), chat_template=template,
            add_generation_prompt=conversation.get("add_generation_prompt", False), return_assistant_tokens_mask=True,
            **{**SPECIAL, **conversation.get("variables", {})})
    except jinja2.exceptions.TemplateError as error:
        return {"raises": str(error)} if type(error) is jinja2.exceptions.TemplateError else {"fails": type(error).__name__}
    except Exception as error:
        return {"fails": type(error).__name__}
    text = texts[0]
    result = {"text": text}
    if spans[0]:
        result["spans"] = [[len(text[:begin].encode()), len(text[:end].encode())] for begin, end in spans[0]]
    return result


def tool(name, description, properties, required=(), **more):
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters, **more}}


SAIL = tool("set_sail", "Sets sail for a place.", {"place": {"type": "string", "description": "where to"}, "oars": {"type": "integer", "description": "how many"}}, ["place"])
WIND = tool("wind", "Tells the wind <here> & \"there\".", {
    "at": {"type": "array", "items": {"type": "number"}, "description": "latitude, longitude"},
    "unit": {"type": "string", "enum": ["kn", "m/s"]}, "deep": {"type": "object", "additionalProperties": {"type": "boolean"}},
    "either": {"type": ["string", "integer"]}}, [], **{"return": {"type": "object"}})
NOTHING = tool("wait", "Waits. 海で待つ\nand waits", {})


def user(content):
    return {"role": "user", "content": content}


def assistant(content=None, **more):
    return {"role": "assistant", "content": content, **more}


def system(content):
    return {"role": "system", "content": content}


def result(content, call="abcdefghi", name=None):
    return {"role": "tool", "content": content, "tool_call_id": call, **({"name": name} if name else {})}


def call(name, arguments, call_id="abcdefghi"):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def parts(*texts, image=False):
    return [{"type": "text", "text": text} for text in texts] + ([{"type": "image"}] if image else [])


PLAIN = [
    [user("home sail")],
    [system("Row."), user("How far is it?")],
    [system("Be brief. "), user(" a "), assistant(" b "), user("c\n")],
    [user("a"), assistant("b"), user("c"), assistant("d")],
    [system(""), user("")],
    [user("  goat \n")],
    [user("海上的船回家了。 É\u0301 \U0001F600\u200d\U0001F469 ß")],
    [system("Speak \"plainly\" & <well>."), user("{{ not a tag }} {% nor this %}"), assistant("'quoted' \\n \\ \t tab"), user("<|im_end|>")],
    [user("a"), user("b")],
    [assistant("I begin."), user("ok")],
    [user("a"), system("late"), assistant("b")],
    [system("one"), system("two"), user("q")],
    [user("a\r\n\r\nb\r\n"), assistant("c\n\n\nd"), user("\u2028e\u00a0")],
    [user("x" * 300), assistant("y " * 150), user("z\n" * 40)],
    [{"role": "captain", "content": "I decide."}],
    [{"role": "developer", "content": "Dev rule"}, user("hi")],
]
THINKING = [
    [user("2+2?"), assistant("<think>\nfour\n</think>\n\n4"), user("3+3?")],
    [user("2+2?"), assistant("4", reasoning_content="It is four."), user("3+3?"), assistant("6", reasoning_content="\nIt is six.\n")],
    [user("q"), assistant("a", thinking="t1"), user("q2"), assistant("a2", reasoning="r2")],
    [system("S /no_think"), user("q"), assistant("<think></think>a"), user("q2 /think")],
    [user("q /no_think"), assistant("half </think> way")],
    [system("Override all. /system_override"), user("q"), assistant("a")],
]
TOOLS = [
    [user("Sail home"), assistant(tool_calls=[call("set_sail", {"place": "Ithaca", "oars": 20})]), result("done"), assistant("We sail.")],
    [system("Use tools."), user("Wind?"), assistant("I look.", tool_calls=[call("wind", {"at": [38.4, 20.7], "unit": "kn", "deep": {"a": True, "b": None}})]), result('{"kn": 12.5}', name="wind")],
    [user("Two"), assistant("", tool_calls=[call("wind", {}, "aaaaaaaaa"), call("wait", {"é": "ü\n\"<>&'"}, "bbbbbbbbb")]), result("r1", "aaaaaaaaa"), result("r2", "bbbbbbbbb"), assistant("both"), user("more")],
    [user("Text arguments"), assistant(tool_calls=[call("set_sail", '{"place": "Troy"}')]), result("no")],
    [user("Short id"), assistant(tool_calls=[call("wait", {}, "id1")]), result("r", "id1")],
    [user("Thought"), assistant("", reasoning_content="Let me call.", tool_calls=[call("wait", {})]), result("ok"), assistant("done", reasoning_content="Now I know.")],
    [user("Object result"), assistant(tool_calls=[call("wind", {"unit": "m/s"})]), result({"speed": 3, "from": "NW", "gusts": [1, 2.0, 1e-7]})],
    [user("No content, no calls"), assistant(None), user("still there?")],
    [user("Bare call"), assistant("", tool_calls=[{"name": "wait", "arguments": {"n": 1}}]), result("r")],
]
RICH = [
    [user(parts("What is this?", image=True)), assistant("A loom."), user(parts("Sure?", "Really?"))],
    [system(parts("Look closely.")), user(parts(" a ")), assistant(parts("b"))],
    [user(parts()), assistant("empty")],
    [user(["bare text", {"type": "text", "text": "part"}])],
]
DOCUMENTS = [{"title": "Log", "text": "Day 1: calm."}, {"title": "Map é", "text": "Here be\nmonsters", "page": 3}]


def conversations():
    cases = [{"messages": messages} for messages in PLAIN[:4]]
    cases += [{"messages": messages, "add_generation_prompt": True} for messages in PLAIN[:4]]
    cases += [{"messages": TOOLS[0], "tools": [SAIL, WIND]}, {"messages": TOOLS[1], "tools": [WIND], "add_generation_prompt": True}]
    cases += [{"messages": THINKING[0], "add_generation_prompt": True}, {"messages": THINKING[1]}]
    cases += [{"messages": RICH[0], "add_generation_prompt": True}, {"messages": PLAIN[1], "documents": DOCUMENTS, "add_generation_prompt": True}]
    cases += [{"messages": PLAIN[8]}, {"messages": PLAIN[6], "add_generation_prompt": True}]
    cases += [{"messages": messages, "add_generation_prompt": index % 2 == 0} for index, messages in enumerate(PLAIN[4:])]
    cases += [{"messages": messages, "add_generation_prompt": index % 2 == 1} for index, messages in enumerate(THINKING)]
    cases += [{"messages": messages, "tools": tools, "add_generation_prompt": index % 2 == 0}
              for index, (messages, tools) in enumerate(zip(TOOLS, [None, [SAIL, WIND, NOTHING], [NOTHING, SAIL], [SAIL], [], [NOTHING], [WIND], [SAIL], [WIND, SAIL]]))]
    cases += [{"messages": messages, "add_generation_prompt": index % 2 == 0} for index, messages in enumerate(RICH)]
    cases += [
        {"messages": PLAIN[0], "tools": [SAIL], "add_generation_prompt": True},
        {"messages": PLAIN[2], "tools": [WIND, NOTHING], "documents": DOCUMENTS},
        {"messages": PLAIN[0], "documents": DOCUMENTS[:1], "variables": {"controls": {"citations": True}}, "add_generation_prompt": True},
        {"messages": PLAIN[0], "variables": {"enable_thinking": False}, "add_generation_prompt": True},
        {"messages": THINKING[1], "variables": {"enable_thinking": True}, "add_generation_prompt": True},
        {"messages": THINKING[0], "variables": {"enable_thinking": False}},
        {"messages": PLAIN[1], "variables": {"date_string": "26 Jul 2024", "thinking": True, "tools_in_user_message": False}, "tools": [SAIL]},
        {"messages": TOOLS[0], "variables": {"builtin_tools": ["code_interpreter", "set_sail"]}, "add_generation_prompt": True},
        {"messages": PLAIN[3], "variables": {"bos_token": "<s>", "eos_token": ""}},
        {"messages": PLAIN[0], "variables": {"python_tools": ["def f(): ...", "def g(): ..."], "enable_thinking": False}},
        {"messages": [user("q"), *[assistant(f"a{i}") if i % 2 == 0 else user(f"q{i}") for i in range(12)]], "add_generation_prompt": True},
        {"messages": TOOLS[2][:2], "tools": [WIND, NOTHING], "add_generation_prompt": True},
        {"messages": [system("S"), user("q"), assistant("a", tool_calls=None), user(None)]},
    ]
    return cases


def stored(outcome, whole):
    if whole or "text" not in outcome or len(outcome["text"]) < LONG:
        return outcome
    data = outcome.pop("text").encode()
    return {"sha256": hashlib.sha256(data).hexdigest(), **outcome}


def write(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":"), indent=0) + "\n", encoding="utf-8")


def main():
    folder = pathlib.Path(sys.argv[1])
    cases = conversations()
    assert len(cases) == 60, len(cases)
    expected = {}
    for path in sorted((folder / "templates").glob("*.jinja")):
        template = path.read_text(encoding="utf-8")
        expected[path.stem] = [stored(render(template, case), index < FULL) for index, case in enumerate(cases)]
        kinds = [next(iter(set(outcome) & {"text", "sha256", "raises", "fails"})) for outcome in expected[path.stem]]
        print(path.stem, {kind: kinds.count(kind) for kind in sorted(set(kinds))})
    write(folder / "conversations.json", {"special_tokens": SPECIAL, "conversations": cases})
    write(folder / "expected.json", expected)
    context = {"messages": TOOLS[0] + [system("S")], "tools": [SAIL], "variables": {"flag": False, "words": ["b", "A", "c"]}}
    write(folder / "probes.json", {"context": context, "probes": [{"template": probe, **render(probe, context)} for probe in PROBES]})


if __name__ == "__main__":
    main()
