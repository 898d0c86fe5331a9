"""agon's HTTP backend against a server program that we did not write: `transformers serve` over the BF16 twin of the
embedded model. Greedy turns through it say what agon's own engine says, but for control tokens, which that server leaves
out of its text. Needs a python with torch and transformers[serving] (5.17 or later): AGON_TRANSFORMERS_PYTHON names it,
else it is this one; where there is none the test is skipped and says so."""
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
import tap

agon, embedded = sys.argv[1:3]
python = os.environ.get("AGON_TRANSFORMERS_PYTHON", sys.executable)

# The encoding of turns without tools (model/encoding.h), as the server's library wants it.
TEMPLATE = """{{- bos_token -}}
{%- for m in messages -%}
{%- if m.role == 'system' -%}{{- m.content -}}
{%- elif m.role == 'user' -%}{{- '<｜User｜>' + m.content -}}
{%- elif m.role == 'assistant' -%}{{- '<｜Assistant｜></think>' + m.content + eos_token -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<｜Assistant｜>' + ('<think>' if thinking else '</think>') -}}{%- endif -%}
"""
CONVERSATIONS = (
    ["Which country has the code NO?"],
    ["Describe the table zones.", "Which of its columns are numbers?"],
    ["1 2 3 äöü 日本 \"quoted\" {}"],
)


def missing():
    """Why there is no such server, or None."""
    done = subprocess.run([python, "-c", "import torch, transformers, fastapi, uvicorn, openai, accelerate; "
                           "from transformers import DeepseekV32Config"], capture_output=True, text=True, timeout=300)
    return (done.stderr.strip().splitlines() or ["it ended"])[-1][:160] if done.returncode else None


def start(folder):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = dict(os.environ, HF_HUB_OFFLINE="1", HF_HUB_CACHE=os.path.join(folder, "cache"), CUDA_VISIBLE_DEVICES="", TQDM_DISABLE="1")
    os.mkdir(env["HF_HUB_CACHE"])
    log = open(os.path.join(folder, "log"), "wb")
    p = subprocess.Popen([python, "-m", "transformers.cli.transformers", "serve", os.path.join(folder, "twin"), "--host", "127.0.0.1",
                          "--port", str(port), "--device", "cpu", "--dtype", "float32"], stdout=log, stderr=log, env=env)
    url = "http://127.0.0.1:%d" % port
    for _ in range(600):
        try:
            urllib.request.urlopen(url + "/health", timeout=2).read()
            return p, url + "/v1"
        except OSError:
            if p.poll() is not None:
                break
            time.sleep(0.5)
    p.kill()
    raise RuntimeError("the server did not start: " + open(log.name, errors="replace").read()[-1500:])


def chat(model, lines, *options):
    done = subprocess.run([agon, "model", "chat", model, "--temperature", "0", "--tokens", "60", *options], input="".join(x + "\n" for x in lines),
                          capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout, done.stderr


def plain(text):
    """What both ways of showing a turn have in common: its letters, without control tokens and without our remarks."""
    text = re.sub(r"\(malformed\) .*", "", text).replace("(cut: tokens ran out) ", "")
    text = re.sub(r'\{"role": "assistant", "content": "(.*)"\}', lambda m: m[1].replace('\\n', '\n').replace('\\"', '"').replace('\\\\', '\\'), text)
    return re.sub(r"\s+", "", re.sub(r"｜DSML｜|</?think>|<｜[^｜]*｜>", "", text))


def compare(url, twin):
    status, _, said = chat(url, ["x"])
    tap.check(status == 2 and said.count("\n") == 1 and "names no model: name it (--model-name)" in said, "a server that lists no model: one line says what to do", said)
    for lines in CONVERSATIONS:
        here, there = chat(embedded, lines[:1]), chat(url, lines[:1], "--model-name", twin)
        tap.check(here[0] == there[0] == 0 and len(plain(here[1])) > 10 and plain(here[1]) == plain(there[1]),
                  "greedy, the server says what our engine says: %.30s" % lines[0], (here, there))
    status, said, _ = chat(url, CONVERSATIONS[1], "--model-name", twin)
    tap.check(status == 0 and len(said) > len(chat(url, CONVERSATIONS[1][:1], "--model-name", twin)[1]), "a second turn follows the first", said)
    status, _, said = chat(url, ["x"], "--model-name", "no/such-model")
    tap.check(status != 0 and said.count("\n") == 1 and "no/such-model" in said, "another model's name is one line", said)


why = missing()
if why:
    tap.skip("transformers serve", "no python with torch and transformers[serving] (set AGON_TRANSFORMERS_PYTHON): " + why)
else:
    with tempfile.TemporaryDirectory(prefix="agon-test-") as folder:
        twin = os.path.join(folder, "twin")
        done = subprocess.run([agon, "model", "dequantize", embedded, twin], capture_output=True, text=True, timeout=120)
        tap.check(done.returncode == 0, "the embedded model has a twin", done.stderr)
        with open(os.path.join(twin, "chat_template.jinja"), "w") as f:
            f.write(TEMPLATE)
        server, url = start(folder)
        try:
            compare(url, twin)
        finally:
            server.terminate()
            server.wait(60)
tap.finish()
