"""An OpenAI-compatible server for the tests of the http backend, misbehaving on demand.

Prints its two ports and serves until standard input closes. What it does is named by the
last message of the request; /stats tells what it saw. The second port is the "other host"
of a redirect: it must never see the key.
"""
import http.server
import json
import os
import sys
import threading
import time

lock = threading.Lock()
tries = {}
stats = {"flying": 0, "flying_max": 0, "stolen": 0, "other_hits": 0, "key_ok": 0, "times": []}


def message(content, **more):
    return {"role": "assistant", "content": content, **more}


def call(name, arguments):
    return {"id": "their_7", "type": "function", "function": {"name": name, "arguments": arguments}}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body, kind="application/json", **headers):
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def complete(self, msg, reason="stop"):
        self.answer(200, {"choices": [{"index": 0, "message": msg, "finish_reason": reason}],
                          "usage": {"prompt_tokens": 11, "completion_tokens": 7}})

    def do_GET(self):
        if self.server.other:
            return self.seen_by_other()
        if self.path == "/v1/models":
            return self.answer(200, {"data": [{"id": "tiny", "max_model_len": 8192}]})
        if self.path == "/locked/models":
            return self.answer(401, {"error": {"message": "no"}})
        if self.path == "/stats":
            return self.answer(200, stats)
        self.answer(404, "<html>nothing here</html>", "text/html")

    def seen_by_other(self):
        with lock:
            stats["other_hits"] += 1
            stats["stolen"] += "Authorization" in self.headers
        self.answer(200, {})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.other:
            return self.seen_by_other()
        request = json.loads(body)
        said = request["messages"][-1]["content"]
        with lock:
            tries[said] = n = tries.get(said, 0) + 1
            stats["flying"] += said == "slow"
            stats["flying_max"] = max(stats["flying_max"], stats["flying"])
            stats["key_ok"] += self.headers.get("Authorization") == "Bearer " + os.environ.get("AGON_API_KEY", "")
            if said.startswith("later"):
                stats["times"].append(time.monotonic())
        try:
            self.act(said.split()[0], n, request)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with lock:
                stats["flying"] -= said == "slow"

    def act(self, said, n, request):
        key = os.environ.get("AGON_API_KEY", "")
        if said == "hello":
            self.complete(message("Hi.", reasoning="because"))
        elif said == "echo":
            self.complete(message(json.dumps(request, sort_keys=True)))
        elif said == "call":
            self.complete(message(None, tool_calls=[call("f", '{"a": 1}'), call("g", "{}")]))
        elif said == "badargs":
            self.complete(message("", tool_calls=[call("f", "{oops")]))
        elif said == "noname":
            self.complete(message("", tool_calls=[{"function": {"arguments": "{}"}}]))
        elif said == "long":
            self.complete(message("Once upon"), "length")
        elif said == "slow":
            time.sleep(0.15)
            self.complete(message("done"))
        elif said == "stall":
            time.sleep(20)
        elif said == "flaky":
            self.complete(message("at last")) if n == 3 else self.answer(500, "<b>oops</b>", "text/html")
        elif said == "drop":
            self.complete(message("back")) if n == 2 else self.connection.close()
        elif said == "short":
            body = json.dumps({"choices": [{"message": message("whole")}], "usage": {"prompt_tokens": -5}})
            self.send_response(200)
            self.send_header("Content-Length", str(len(body) + (50 if n == 1 else 0)))
            self.end_headers()
            self.wfile.write(body.encode())
            self.close_connection = True
        elif said == "html":
            self.answer(200, "<html><body>Welcome to the portal</body></html>", "text/html")
        elif said == "empty":
            self.answer(200, {"choices": []})
        elif said == "error200":
            self.answer(200, {"error": {"message": "the model is loading"}})
        elif said == "redirect":
            self.answer(307, "", Location="http://127.0.0.1:%d/v1/chat/completions" % other.server_port)
        elif said == "later":
            self.complete(message("later")) if n == 2 else self.answer(429, {"error": "busy"}, Retry_After="1")
        elif said == "denied":
            self.answer(401, {"error": {"message": "Incorrect API key provided: " + key}})
        elif said == "toolong":
            self.answer(400, {"error": {"message": "maximum context length is 8192 tokens"}})
        elif said == "strict":
            unknown = [f for f in ("chat_template_kwargs", "top_k", "seed") if f in request]
            if unknown:
                return self.answer(400, {"error": {"message": "Unrecognized request argument supplied: " + unknown[0]}})
            self.complete(message("fine " + str(n)))
        elif said == "echokey":
            self.complete(message("your key is " + key))
        else:
            self.answer(404, "")


def serve(other):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.other = other
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


main, other = serve(False), serve(True)
print(f"{main.server_port} {other.server_port}\n", end="", flush=True)  # in one write
sys.stdin.read()
