"""agon's HTTP backend against server programs that we did not write; where one is not installed its part is skipped and says so.

`transformers serve` over the BF16 twin of the embedded model: greedy turns through it say what agon's own engine says, but
for control tokens, which that server leaves out of its text. Needs a python with torch and transformers[serving] (5.17 or
later): AGON_TRANSFORMERS_PYTHON names it, else it is this one.

LiteLLM's proxy in front of `agon model serve`: turns through it are those of the server itself, drawn ones and thinking
ones included. Needs the program litellm (pip install 'litellm[proxy]'): AGON_LITELLM names it, else it is on the PATH."""
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
import tap
from server import Server

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


def start(folder, args, health, **variables):
    """The program and its URL, once it answers at `health`."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    log = open(os.path.join(folder, "log"), "wb")
    p = subprocess.Popen([*args, "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log, env=dict(os.environ, **variables))
    url = "http://127.0.0.1:%d" % port
    for _ in range(600):
        try:
            urllib.request.urlopen(url + health, timeout=2).read()
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


def call(invoke):
    """A call in the model's markup as `agon model chat` shows one."""
    values = re.findall(r'<(?:｜DSML｜)?parameter name="(\w+)" string="(\w+)">(.*?)</(?:｜DSML｜)?parameter>', invoke[2], re.S)
    return invoke[1] + json.dumps({name: value if text == "true" else json.loads(value) for name, text, value in values}, ensure_ascii=False)


def plain(text):
    """What both ways of showing a turn have in common: its letters, without control tokens and without our remarks."""
    text = re.sub(r'<(?:｜DSML｜)?invoke name="(\w+)">(.*?)</(?:｜DSML｜)?invoke>', call, text, flags=re.S)
    text = re.sub(r"</?(?:｜DSML｜)?function_calls>|\(calls\)", "", text)
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


def transformers():
    why = missing()
    if why:
        tap.skip("transformers serve", "no python with torch and transformers[serving] (set AGON_TRANSFORMERS_PYTHON): " + why)
        return
    with tempfile.TemporaryDirectory(prefix="agon-test-") as folder:
        twin, cache = os.path.join(folder, "twin"), os.path.join(folder, "cache")
        os.mkdir(cache)
        done = subprocess.run([agon, "model", "dequantize", embedded, twin], capture_output=True, text=True, timeout=120)
        tap.check(done.returncode == 0, "the embedded model has a twin", done.stderr)
        with open(os.path.join(twin, "chat_template.jinja"), "w") as f:
            f.write(TEMPLATE)
        server, url = start(folder, [python, "-m", "transformers.cli.transformers", "serve", twin, "--device", "cpu", "--dtype", "float32"],
                            "/health", HF_HUB_OFFLINE="1", HF_HUB_CACHE=cache, CUDA_VISIBLE_DEVICES="", TQDM_DISABLE="1")
        try:
            compare(url, twin)
        finally:
            server.terminate()
            server.wait(60)


def litellm():
    program = os.environ.get("AGON_LITELLM") or shutil.which("litellm")
    if not program:
        tap.skip("LiteLLM's proxy", "no program litellm (pip install 'litellm[proxy]', or set AGON_LITELLM)")
        return
    own = Server(agon, embedded)
    with tempfile.TemporaryDirectory(prefix="agon-test-") as folder:
        config = os.path.join(folder, "config.yaml")
        with open(config, "w") as f:
            f.write("model_list:\n  - model_name: tiny\n    litellm_params: {model: openai/tiny, api_base: %s, api_key: none}\n" % own.url)
        os.environ["AGON_API_KEY"] = "sk-of-this-test"
        proxy, url = start(folder, [program, "--config", config, "--telemetry", "False"], "/health/liveliness", LITELLM_MASTER_KEY="sk-of-this-test",
                           LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY="true")
        try:
            for options in ([], ["--temperature", "0.8", "--seed", "3"], ["--thinking", "--temperature", "0.8", "--seed", "4"]):
                there, here = chat(url, CONVERSATIONS[1], *options), chat(own.url, CONVERSATIONS[1], *options)
                tap.check(there == here and there[0] == 0 and len(there[1]) > 20, "through a proxy turns are the server's own: %s" % " ".join(options), (there, here))
            os.environ["AGON_API_KEY"] = "sk-of-nobody"
            status, _, said = chat(url, ["x"])
            tap.check(status != 0 and said.count("\n") == 1 and "sk-of-nobody" not in said, "a wrong key is one line without it", said)
        finally:
            proxy.terminate()
            proxy.wait(60)
            own.stop()


transformers()
litellm()
tap.finish()
