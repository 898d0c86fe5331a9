"""A small site with good pages and hostile ones, for the retrieval tests.

Serves on 127.0.0.1 at a free port, prints the port, and ends when standard
input closes, so that it never outlives the test that started it.
"""
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGES = {
    "/robots.txt": ("text/plain", "User-agent: *\nDisallow: /private/\nAllow: /private/open\nDisallow: /*.secret$\n"),
    "/": ("text/html", """<html><head><title>Town records</title></head><body>
        <h1>Town records</h1><p>Records of   bridges and <a href="/mills.html">mills</a>.</p>
        <table><tr><th>Set</th><th>About</th><th>File</th></tr>
        <tr><td>bridges</td><td>Stone bridges over the river Ause</td><td><a href="/data/bridges.csv">CSV</a></td></tr>
        <tr><td>ferries</td><td>Ferries and their crews</td><td><a href="/data/ferries.csv">CSV</a></td></tr>
        <tr><td>a</td><td>b</td><td>c</td></tr><tr><td>d</td><td>e</td><td>f</td></tr></table>
        <a href="/private/ledger.html">ledger</a> <a href="http://127.0.0.2:9/elsewhere.html">elsewhere</a>
        <script>document.write('<a href="/from-script.html">x</a>')</script></body></html>"""),
    "/mills.html": ("text/html; charset=utf-8", """<title>Mills</title><body><p>水車小屋の記録</p>
        <table><tr><th>Mill name</th><th>Built</th><th>class</th><th>Miles/(US) gallon</th></tr>
        <tr><td>Upper</td><td>1780</td><td>A</td><td>3.5</td></tr><tr><td>Lower</td><td></td><td>B</td><td>4</td></tr>
        <tr><td>Old &amp; New</td><td>1802</td><td>A</td><td>1e2</td></tr></table></body>"""),
    "/data/bridges.csv": ("text/csv", 'name,spans,"length, m",code\r\n"Long ""Tom""",5,80.5,007\r\nShort,1,NA,008\r\nMid,3,12,009\r\n'),
    "/data/ferries.csv": ("text/csv", "ferry,crew\nAda,4\nBee,5\n"),
    "/private/ledger.html": ("text/html", "<p>nobody may read this</p>"),
    "/private/open.html": ("text/html", "<p>this is open</p>"),
    "/page.secret": ("text/html", "<p>closed by pattern</p>"),
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def do_GET(self):
        path = self.path.split("?")[0]
        self.server.log.append(path)
        if path == "/moved":
            return self.redirect("/mills.html")
        if path == "/loop":
            return self.redirect("/loop")
        if path == "/to-file":
            return self.redirect("file:///etc/passwd")
        if path == "/to-private":
            return self.redirect("http://169.254.169.254/latest/meta-data")
        if path == "/endless":
            return self.endless()
        if path == "/log":
            return self.reply(200, "text/plain", "\n".join(self.server.log))
        if path not in PAGES:
            return self.reply(404, "text/html", "<p>no</p>")
        kind, text = PAGES[path]
        self.reply(200, kind, text)

    def redirect(self, to):
        self.send_response(302)
        self.send_header("Location", to)
        self.end_headers()

    def reply(self, status, kind, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def endless(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"<p>and so on</p>" * 4096)
        except OSError:
            pass

    def log_message(self, *args):
        pass


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.log = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.write(1, f"{server.server_address[1]}\n".encode())  # one write: the reader closes at once
    sys.stdin.read()


main()
