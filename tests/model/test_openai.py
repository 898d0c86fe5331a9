"""The openai client, which we did not write, against agon's server. It comes from PyPI into a venv of this test's own;
where PyPI can't be reached the test is skipped and says so."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
import tap
from server import Server

agon, embedded, build = sys.argv[1:4]
venv = os.path.join(build, "venv-openai")


def install():
    """The venv's python with the package, or why there is none."""
    python = os.path.join(venv, "bin", "python")
    if os.path.exists(os.path.join(venv, "complete")):
        return python, None
    for args in ([sys.executable, "-m", "venv", "--clear", venv],
                 [python, "-m", "pip", "install", "-q", "--timeout", "20", "--retries", "1", "openai>=1.50,<3"]):
        done = subprocess.run(args, capture_output=True, text=True, timeout=900)
        if done.returncode:
            return None, (done.stdout + done.stderr).strip().splitlines()[-1][:200]
    open(os.path.join(venv, "complete"), "w").close()
    return python, None


CLIENT = r'''
import json, sys
import openai
client = openai.OpenAI(base_url=sys.argv[1], api_key="s3cret", max_retries=0)
out = {}
out["models"] = [m.id for m in client.models.list()]
hello = dict(model="tiny", messages=[{"role": "user", "content": "Hello"}], max_tokens=20, seed=3, temperature=0)
whole = client.chat.completions.create(**hello, logprobs=True, top_logprobs=2, n=2)
out["whole"] = [c.message.content for c in whole.choices]
out["logprobs"] = [t.logprob for t in whole.choices[0].logprobs.content]
out["usage"] = whole.usage.completion_tokens
chunks = list(client.chat.completions.create(**hello, stream=True, stream_options={"include_usage": True}))
out["stream"] = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
out["stream_usage"] = chunks[-1].usage.completion_tokens
text = client.completions.create(model="tiny", prompt="The quick brown", max_tokens=16, seed=1, logprobs=2, extra_body={"return_token_ids": True, "top_k": 40})
out["text"], out["ids"] = text.choices[0].text, text.choices[0].token_ids
out["text_logprobs"] = len(text.choices[0].logprobs.token_logprobs)
out["text_stream"] = "".join(c.choices[0].text for c in client.completions.create(model="tiny", prompt="The quick brown", max_tokens=16, seed=1, stream=True, extra_body={"top_k": 40}))
tool = {"type": "function", "function": {"name": "get_time", "description": "The time.", "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}}}}
ask = dict(model="tiny", messages=[{"role": "user", "content": "What time is it in Oslo?"}], tools=[tool], temperature=0.6, max_tokens=200)
for seed in range(60):
    choice = client.chat.completions.create(**ask, seed=seed).choices[0]
    if choice.finish_reason == "tool_calls":
        call = choice.message.tool_calls[0]
        out["call"] = [call.function.name, json.loads(call.function.arguments)]
        with client.chat.completions.stream(**ask, seed=seed) as s:
            final = s.get_final_completion().choices[0]
        out["stream_call"] = [final.message.tool_calls[0].function.name, json.loads(final.message.tool_calls[0].function.arguments)]
        results = [{"role": "tool", "tool_call_id": c.id, "content": "noon"} for c in choice.message.tool_calls]
        after = client.chat.completions.create(**{**ask, "messages": ask["messages"] + [choice.message] + results}, seed=0)
        out["after"] = after.choices[0].finish_reason
        break
for name, error, make in (("bad", openai.BadRequestError, lambda: client.chat.completions.create(**{**hello, "temperature": -1})),
                    ("missing", openai.NotFoundError, lambda: client.chat.completions.create(**{**hello, "model": "x"})),
                    ("key", openai.AuthenticationError, lambda: openai.OpenAI(base_url=sys.argv[1], api_key="x").models.list())):
    try:
        make()
    except error as e:
        out[name] = str(e)
print(json.dumps(out))
'''


def client(python, server):
    done = subprocess.run([python, "-c", CLIENT, server.url], capture_output=True, text=True, timeout=300)
    if not tap.check(done.returncode == 0, "the openai client gets through", done.stderr[-2000:]):
        return
    out = json.loads(done.stdout)
    tap.check(out["models"] == ["tiny"], "it lists the model")
    tap.check(len(out["whole"]) == 2 and out["stream"] == out["whole"][0] and out["stream_usage"] * 2 == out["usage"], "chat: whole, n, stream, usage", out)
    tap.check(all(x <= 0 for x in out["logprobs"]) and len(out["logprobs"]) * 2 == out["usage"], "log-probabilities")
    tap.check(out["text"] == out["text_stream"] and len(out["ids"]) == 16 == out["text_logprobs"], "completions: whole, stream, ids", out)
    tap.check(out.get("call") and out["call"] == out["stream_call"] and out.get("after"), "tools: call, stream of a call, result", out)
    tap.check(all(out.get(k) for k in ("bad", "missing", "key")), "errors become its exceptions", out)


python, why = install()
if not python:
    tap.skip("the openai client", "PyPI can't be reached: " + why)
else:
    os.environ["AGON_API_KEY"] = "s3cret"
    server = Server(agon, embedded, key="s3cret")
    try:
        client(python, server)
    finally:
        server.stop()
tap.finish()
