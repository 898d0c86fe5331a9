"""A small HTTP server with good and bad manners, for test_http.c. Prints its port, then
serves until its standard input ends."""
import http.server
import sys
import threading
import time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, status, body, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(200, str(self.headers).encode() + b"|" + body, Content_Type="text/plain")

    def do_GET(self):
        getattr(self, "get_" + self.path.split("?")[0][1:], self.get_missing)()

    def get_missing(self):
        self.reply(404, b"nothing here")

    def get_ok(self):
        self.reply(200, b"fine\0\xff", Content_Type="text/html; charset=utf-8")

    def get_headers(self):
        self.reply(200, str(self.headers).encode())

    def get_peer(self):
        self.reply(200, b"%d" % self.client_address[1])

    def get_redirect(self):
        self.reply(302, b"moved", Location="/ok?x=1")

    def get_busy(self):
        self.reply(503, b"later", Retry_After="17")

    def get_sized(self):  # announces its size
        self.reply(200, b"x" * 100000)

    def get_endless(self):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(b"x" * 1000)

    def get_headers_endless(self):
        self.send_response(200)
        while True:
            self.send_header("X-More", "y" * 1000)
            self.flush_headers()

    def get_stall(self):
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(b"half")
        self.wfile.flush()
        time.sleep(30)

    def get_trickle(self):  # never stalls, never ends
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.1)

    def get_broken(self):
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"short")
        self.close_connection = True

    def get_slow(self):
        time.sleep(0.4)
        self.reply(200, b"slow")


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        # A client that hangs up is what the tests are about.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


server = Server(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
