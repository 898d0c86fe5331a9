"""A running `agon model serve` for tests, and requests to it with the standard library alone."""
import http.client
import json
import os
import re
import signal
import socket
import subprocess

import tap


class Server:
    def __init__(self, agon, folder, *options, key=None):
        env = dict(os.environ)
        env.pop("AGON_SERVE_KEY", None)
        if key:
            env["AGON_SERVE_KEY"] = key
        self.p = subprocess.Popen([agon, "model", "serve", folder, "-p", "0", "-j", "2", "--name", "tiny", *tap.device, *options],
                                  stderr=subprocess.PIPE, text=True, env=env)
        line = self.p.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/v1", line)
        if not found:
            raise RuntimeError("the server did not start: " + line)
        self.port = int(found[1])
        self.url = "http://127.0.0.1:%d/v1" % self.port

    def ask(self, path, body=None, headers={}, method=None):
        """(status, headers, body) of one request."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        c.request(method or ("GET" if body is None else "POST"), path, data, headers)
        r = c.getresponse()
        text = r.read().decode()
        c.close()
        return r.status, dict(r.getheaders()), text

    def json(self, path, body=None, **options):
        status, _, text = self.ask(path, body, **options)
        return status, json.loads(text)

    def stream(self, path, body):
        """The chunks of a stream, and whether it ended in [DONE]."""
        status, headers, text = self.ask(path, {**body, "stream": True})
        events = [e[len("data: "):] for e in text.split("\n\n") if e]
        return [json.loads(e) for e in events if e != "[DONE]"], events[-1:] == ["[DONE]"] and status == 200 and \
            headers["Content-Type"].startswith("text/event-stream")

    def raw(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def metric(self, name):
        found = re.search(r"^agon_%s (\S+)$" % re.escape(name), self.ask("/metrics")[2], re.M)
        return float(found[1]) if found else None

    def stop(self, number=signal.SIGTERM):
        """Exit status after a signal."""
        self.p.send_signal(number)
        status = self.p.wait(60)
        self.p.stderr.close()
        return status
