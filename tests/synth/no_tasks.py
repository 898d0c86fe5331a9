#!/usr/bin/env python3
"""synth/ holds no task wording, no schema of a world and no tool code: what is made is the model's.

Looked for in every string of the C files and in every prompt file: Lua that defines a named tool, check or
solution; SQL over a named table of a world; JSON schemas of answers. The prompts may show forms ("...") only.
"""
import os
import re
import sys

root = os.path.join(sys.argv[1], "synth")
n = failures = 0
STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
# tables that SQLite or the driver's own index has
OURS = {"sqlite_schema", "pragma_table_info", "pragma_table_list"}


def report(ok, claim, found):
    global n, failures
    n += 1
    failures += not ok
    print("%sok %d - %s" % ("" if ok else "not ", n, claim))
    for f in found:
        print("# " + f)


def strings(path):
    text = COMMENT.sub(" ", open(path).read())
    return re.sub(r'"\s+"', "", " \0 ".join(s[1:-1] for s in STRING.findall(text)))


def files(end, folder=root):
    for at, _, names in os.walk(folder):
        for name in sorted(names):
            if name.endswith(end):
                yield os.path.join(at, name)


code = [(p, strings(p)) for p in list(files(".c")) + list(files(".h"))]
report(len(code) > 20, "the sources of synth/ are found", [])
lua = re.compile(r"\b(tool|check)\s*\{|return function\s*\(tools\)|world:(rows|row|value|exec)")
report(not any(lua.search(t) for _, t in code), "no C file of synth/ holds Lua", [p for p, t in code if lua.search(t)])
sql = re.compile(r"\bFROM\s+([a-z_]\w*)")
foreign = ["%s: %s" % (p, m) for p, t in code if "/retrieval/" not in p for m in sql.findall(t) if m not in OURS]
report(not foreign, "no C file of the loop asks a table by name", foreign)
schema = re.compile(r'\\"properties\\"|\\"answer_schema\\"\s*:')
report(not any(schema.search(t) for _, t in code), "no C file of synth/ holds a JSON schema",
       [p for p, t in code if schema.search(t)])
wording = re.compile(r"\b(how many|which (of|one)|the (highest|lowest|largest|smallest|number of) )\b", re.I)
asks = ["%s: %s" % (p, wording.search(t)[0]) for p, t in code if wording.search(t)]
report(not asks, "no C file of synth/ words a task", asks)
prompts = [(p, open(p).read()) for p in files(".md", os.path.join(root, "prompts"))]
report(len(prompts) >= 6, "the prompt files are found", [])
named = re.compile(r'name\s*=\s*"(?!\.\.\.)')
body = re.compile(r"\bSELECT\b|\bFROM\s+\w+\b(?= WHERE)|world:rows\(\"")
report(not any(named.search(t) or body.search(t) for _, t in prompts), "the prompts show forms, no tool and no check",
       [p for p, t in prompts if named.search(t) or body.search(t)])
report(not any(wording.search(t) for _, t in prompts), "the prompts word no task", [p for p, t in prompts if wording.search(t)])
print("1..%d" % n)
sys.exit(failures > 0)
