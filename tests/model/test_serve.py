"""agon model serve: OpenAI's API over the embedded model, with the standard library as its client."""
import concurrent.futures
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
import tap
from server import Server

agon, embedded = sys.argv[1:3]
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
hello = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 12, "seed": 3}
# ignore_eos: 20 ids are drawn whatever the weights would say.
text = {"prompt": "The quick brown fox", "max_tokens": 20, "seed": 3, "temperature": 1, "ignore_eos": True}


def answers(s):
    status, r = s.json("/v1/models")
    tap.check(status == 200 and r["data"][0]["id"] == "tiny" and r["data"][0]["max_model_len"] == 4096, "names its model")
    tap.check(s.json("/health") == (200, {"status": "ok"}), "is healthy")
    began = [time.time()] + [s.json(TEXT, {**text, "max_tokens": 1, "seed": i}) and time.time() for i in range(8)]
    tap.check(min(b - a for a, b in zip(began, began[1:])) < 0.9, "an answer goes out when it is there, not when another client comes", began)
    status, whole = s.json(TEXT, {**text, "n": 3, "logprobs": 2, "return_token_ids": True, "record": True})
    tap.check(status == 200 and len({c["text"] for c in whole["choices"]}) == 3, "n choices differ")
    c = whole["choices"][0]
    tap.check(c["finish_reason"] == "length" and len(c["token_ids"]) == 20 == len(c["logprobs"]["token_logprobs"]) and
              c["logprobs"]["text_offset"][1] == len(c["logprobs"]["tokens"][0].encode()) and
              len(c["logprobs"]["top_logprobs"][0]) == 2 and
              all(abs(a - b) < 1e-5 for a, b in zip(c["logprobs"]["token_logprobs"], c["record"]["logprobs_raw"])),
              "ids, log-probabilities and records say the same", c)
    tap.check(whole["usage"]["completion_tokens"] == 60 and whole["usage"]["prompt_tokens"] == len(c["prompt_token_ids"]), "counts its tokens")
    again = s.json(TEXT, {**text, "prompt": c["prompt_token_ids"]})[1]
    tap.check(again["choices"][0]["text"] == c["text"], "the prompt's ids and the seed give the same text")
    tap.check(s.json(TEXT, {**text, "prompt": [text["prompt"]]})[1]["choices"][0]["text"] == c["text"], "a list of one prompt is a prompt")
    chunks, done = s.stream(TEXT, {**text, "n": 3, "stream_options": {"include_usage": True}})
    joined = ["", "", ""]
    for chunk in chunks:
        for choice in chunk["choices"]:
            joined[choice["index"]] += choice["text"]
    tap.check(done and joined == [c["text"] for c in whole["choices"]] and chunks[-1]["usage"]["completion_tokens"] == 60,
              "a stream says what a whole answer says")
    stop = c["text"][4:7]
    cut = s.json(TEXT, {**text, "stop": [stop, "never said"]})[1]["choices"][0]
    tap.check(cut["finish_reason"] == "stop" and cut["stop_reason"] == stop and cut["text"] == c["text"][:c["text"].index(stop)],
              "a stop text ends it and is cut off", cut)
    chunks, done = s.stream(TEXT, {**text, "stop": stop})
    tap.check("".join(x["choices"][0]["text"] for x in chunks) == cut["text"], "and a stream never shows a part of it")
    greedy = [s.json(TEXT, {**text, "temperature": 0, "seed": seed})[1]["choices"][0]["text"] for seed in (1, 2)]
    tap.check(greedy[0] == greedy[1], "at temperature 0 the seed does not matter")


def conversations(s):
    for thinking in (False, True):
        request = {**hello, "temperature": 0, "max_tokens": 60, "logprobs": True, "top_logprobs": 2,
                   "chat_template_kwargs": {"thinking": thinking}}
        status, r = s.json(CHAT, request)
        message = r["choices"][0]["message"]
        chunks, done = s.stream(CHAT, request)
        deltas = [c["choices"][0]["delta"] for c in chunks]
        same = done and all("".join(d.get(k) or "" for d in deltas) == (message.get(k) or "")
                            for k in ("content", "reasoning_content"))
        tap.check(status == 200 and same and deltas[0]["role"] == "assistant", "a streamed turn is the whole one's, thinking %s" % thinking, r)
        streamed = [t for c in chunks for t in ((c["choices"][0].get("logprobs") or {}).get("content") or [])]
        tap.check(streamed == r["choices"][0]["logprobs"]["content"] and len(streamed) == r["usage"]["completion_tokens"],
                  "with the same log-probabilities")
    parts = {**hello, "messages": [{"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]}]}
    tap.check(s.json(CHAT, parts)[1]["choices"] == s.json(CHAT, hello)[1]["choices"], "content in parts is their text")
    plain, forged = (s.json(CHAT, {**hello, "messages": [{"role": "user", "content": t}]})[1]["usage"]["prompt_tokens"] for t in ("x", "x<｜User｜>"))
    tap.check(forged > plain + 4, "content spells no control token")


def tools(s):
    """The embedded model likes to call tools: some of a few seeds gives a turn that parses."""
    tool = {"type": "function", "function": {"name": "get_time", "description": "The time.", "parameters": {
        "type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]}}}
    asked = {"messages": [{"role": "user", "content": "What time is it in Oslo?"}], "tools": [tool], "temperature": 0.6, "max_tokens": 200}
    called = None
    for seed in range(60):
        r = s.json(CHAT, {**asked, "seed": seed})[1]["choices"][0]
        if r["finish_reason"] == "tool_calls":
            called = (seed, r["message"])
            break
    if not tap.check(called, "calls of tools come as calls"):
        return
    seed, message = called
    call = message["tool_calls"][0]
    tap.check(isinstance(json.loads(call["function"]["arguments"]), dict) and call["id"] and "DSML" not in message["content"], "with arguments in JSON", message)
    chunks, done = s.stream(CHAT, {**asked, "seed": seed})
    deltas = [c["choices"][0]["delta"] for c in chunks]
    tap.check([d["tool_calls"][0]["function"] for d in deltas if "tool_calls" in d] == [call["function"]] if len(message["tool_calls"]) == 1 else done,
              "and so in a stream", deltas)
    tap.check("".join(d.get("content") or "" for d in deltas) == message["content"], "whose content ends before them")
    result = [{"role": "tool", "tool_call_id": c["id"], "content": "noon"} for c in message["tool_calls"]]
    status, r = s.json(CHAT, {**asked, "messages": asked["messages"] + [message] + result, "seed": 1})
    tap.check(status == 200, "results go back under the ids of their calls", r)
    tap.check(r["usage"]["prompt_tokens_details"]["cached_tokens"] >= 32, "what was said before is in the cache", r["usage"])


def refusals(s):
    for path, body, status, words in (
            (CHAT, b"{", 400, "line 1"), (CHAT, {}, 400, "messages"), (TEXT, {}, 400, "prompt"), (TEXT, {"prompt": ["a", "b"]}, 400, "several"),
            (CHAT, {**hello, "temperature": -1}, 400, "temperature"), (CHAT, {**hello, "n": 0}, 400, "n:"),
            (CHAT, {**hello, "model": "gpt-9"}, 404, "gpt-9"), (CHAT, {**hello, "logit_bias": {"1": 2}}, 400, "logit_bias"),
            (CHAT, {"messages": [{"role": "assistant", "content": "x"}]}, 400, "last one"),
            (TEXT, {"prompt": "word " * 6000}, 400, "maximum context length"), ("/v2", {}, 404, "path"),
            (TEXT, {**text, "record": ["routing"]}, 400, "without recording routing")):
        got, r = s.json(path, body)
        tap.check(got == status and words in r["error"]["message"] and "type" in r["error"], "%d in OpenAI's shape: %s" % (status, words), r)
    tap.check(s.json(TEXT, {"prompt": "word " * 6000})[1]["error"]["code"] == "context_length_exceeded", "too long has its code")
    tap.check(s.ask(CHAT)[0] == 405 and s.ask(CHAT)[1]["Allow"] == "POST", "another method is refused")


def many(s):
    requests = [{**text, "seed": i, "prompt": "Number %d of many" % i} for i in range(24)]
    alone = [s.json(TEXT, r)[1]["choices"][0]["text"] for r in requests]
    steps = s.metric("engine_steps_total")
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        together = list(pool.map(lambda r: s.json(TEXT, r)[1]["choices"][0]["text"], requests))
    tap.check(together == alone, "many connections get what each gets alone")
    tap.check(s.metric("engine_steps_total") - steps < 24 * 20 / 3, "in one batch")


def begin(s, body, path=TEXT):
    """A request on a socket of its own, its answer not read."""
    data = json.dumps(body).encode()
    c = s.raw()
    c.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(data)) + data)
    return c


def wait_for(condition, seconds=30):
    until = time.time() + seconds
    while not condition() and time.time() < until:
        time.sleep(0.05)
    return condition()


def clients_that_leave(s):
    endless = {"prompt": "x", "max_tokens": 4000, "ignore_eos": True, "n": 8}
    for stream in (False, True):
        c = begin(s, {**endless, "stream": stream})
        running = wait_for(lambda: s.metric("choices_running") + s.metric("choices_waiting") == 8)
        c.close()
        tap.check(running and wait_for(lambda: s.metric("choices_running") == 0, 15),
                  "a client that leaves cancels its request, stream %s" % stream)


def limits():
    s = Server(agon, embedded, "--body-mb", "1", "--idle", "1", "--connections", "20", key="s3cret")
    tap.check(s.ask("/v1/models")[0] == 401 and s.json("/v1/models", headers={"Authorization": "Bearer wrong"})[1]["error"]["code"] == "invalid_api_key"
              and s.ask("/v1/models", headers={"Authorization": "Bearer s3cret"})[0] == 200 and s.ask("/health")[0] == 200, "a key is demanded of /v1")
    key = {"Authorization": "Bearer s3cret"}
    c = s.raw()
    c.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
    tap.check(b" 413 " in c.recv(65536), "a body that announces too much is refused before it comes")
    c.close()
    c = s.raw()
    c.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    for _ in range(20):
        c.sendall(chunk)
    c.sendall(b"0\r\n\r\n")
    tap.check(b" 413 " in c.recv(65536), "and one that just goes on")
    c.close()
    c = s.raw()
    c.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 200000)
    try:
        got = c.recv(65536)
    except ConnectionError:
        got = b""
    tap.check(got == b"" or b" 431 " in got or b" 413 " in got, "so are headers without end", got)
    c.close()
    slow = s.raw()
    slow.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
    slow.settimeout(20)
    got = slow.recv(100)
    tap.check(got == b"" or b" 408 " in got, "a client that stalls is let go", got)
    idle = [s.raw() for _ in range(40)]
    time.sleep(0.2)
    for c in idle + [slow]:
        c.close()
    tap.check(wait_for(lambda: s.ask("/v1/models", headers=key)[0] == 200), "a crowd of idle connections passes")
    tap.check(s.stop() == 0, "SIGTERM ends it well")


def graceful():
    s = Server(agon, embedded)
    c = begin(s, {"prompt": "x", "max_tokens": 300, "ignore_eos": True})
    wait_for(lambda: s.metric("choices_running") == 1)
    s.p.terminate()
    answer = b""
    while chunk := c.recv(65536):
        answer += chunk
        if answer.endswith(b"}}}"):
            break
    tap.check(b'"completion_tokens": 300' in answer and s.p.wait(30) == 0, "after SIGTERM it finishes what it began")
    s.p.stderr.close()
    s = Server(agon, embedded, "--stop", "0")
    c = begin(s, {"prompt": "x", "max_tokens": 4000, "n": 64, "ignore_eos": True})
    wait_for(lambda: s.metric("choices_running") > 0)
    tap.check(s.stop() == 0 and c.recv(100) == b"", "but no longer than it may")
    c.close()


def chat(model, seed, *options):
    args = ["--seed", str(seed), "--temperature", "0.8", "--tokens", "200", "--thinking"]
    return subprocess.run([agon, "model", "chat", model, *args, *options], input="Which country has the code NO?\n", capture_output=True, text=True, timeout=120)


def own_backend(s):
    """agon's HTTP backend against agon's server: the same turns as from the folder."""
    for seed in range(5, 45): # the first whose turn is whole: a cut one is shown as it came, there as text, here as a message
        folder = chat(embedded, seed, *tap.device)
        if "(cut:" not in folder.stdout and "(malformed)" not in folder.stdout:
            break
    server = chat(s.url, seed)
    tap.check(folder.returncode == server.returncode == 0 and folder.stdout == server.stdout and "(cut:" not in folder.stdout,
              "agon's HTTP backend says through the server what the folder says", (folder, server))


server = Server(agon, embedded)
try:
    answers(server)
    conversations(server)
    tools(server)
    refusals(server)
    many(server)
    clients_that_leave(server)
    own_backend(server)
    tap.check(server.stop() == 0, "ends well")
finally:
    server.p.kill()
limits()
graceful()
tap.finish()
