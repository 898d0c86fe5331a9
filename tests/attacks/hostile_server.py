"""A web server that lies, hangs and floods, for the attacks of row H.

It speaks over raw sockets, so that it can break every rule. The first part of a path names what it
does. Prints two ports (the second is "another host", whose visitors are counted), serves until
standard input closes, and tells at /seen what it was asked.
"""
import gzip
import socket
import sys
import threading
import time

seen = []
lock = threading.Lock()
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
GOOD = b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}]}'


def whole(body, kind=b"text/html", more=b"", status=b"200 OK"):
    return b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status, kind, len(body), more, body)


def moved(to):
    return whole(b"", more=b"Location: " + to + b"\r\n", status=b"302 Found")


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
FIXED = {
    "short": OK + b"Content-Length: 100\r\n\r\nfive!",
    "early": OK,
    "nothing": b"",
    "garbage": b"\x00\xff\xfe garbage\r\n\r\n",
    "http09": b"<html>no status line at all</html>",
    "status_huge": b"HTTP/1.1 99999999999 OK\r\nContent-Length: 2\r\n\r\nhi",
    "status_text": b"HTTP/1.1 two hundred\r\nContent-Length: 2\r\n\r\nhi",
    "negative": OK + b"Content-Length: -5\r\n\r\nhello",
    "length_huge": OK + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
    "length_text": OK + b"Content-Length: five\r\n\r\nhello",
    "two_lengths": OK + b"Content-Length: 5\r\nContent-Length: 50\r\n\r\nhello",
    "both": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"chunked") + b"0\r\n\r\n",
    "chunk_garbage": CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n",
    "chunk_huge": CHUNKED + b"FFFFFFFFFFFFFFFFFF\r\nhello",
    "chunk_negative": CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
    "chunk_short": CHUNKED + b"64\r\nfive!",
    "chunk_unended": CHUNKED + chunk(b"part"),
    "chunk_no_crlf": CHUNKED + b"5\r\nhelloXX5\r\nhello\r\n0\r\n\r\n",
    "te_gzip": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunk(gzip.compress(b"x")) + b"0\r\n\r\n",
    "gzip": whole(gzip.compress(b"x" * (8 << 20)), more=b"Content-Encoding: gzip\r\n"),
    "deflate": whole(b"x\x9c", more=b"Content-Encoding: deflate\r\n"),
    "br": whole(b"\x0b", more=b"content-encoding:  BR\r\n"),
    "zstd": whole(b"(\xb5/\xfd", more=b"Content-Encoding: identity, zstd\r\n"),
    "redirect_file": moved(b"file:///etc/passwd"),
    "redirect_loop": moved(b"/redirect_loop/again"),
    "redirect_metadata": moved(b"http://169.254.169.254/latest/meta-data"),
    "redirect_private": moved(b"http://127.0.0.3/"),
    "redirect_number": moved(b"http://2130706433/"),
    "redirect_mapped": moved(b"http://[::ffff:127.0.0.3]/"),
    "redirect_user": moved(b"http://user:secret@127.0.0.1/"),
    "redirect_gopher": moved(b"gopher://127.0.0.1:25/"),
    "redirect_long": moved(b"/" + b"x" * 5000),
    "redirect_data": moved(b"data:text/html,hello"),
    "hits": whole(b'{"results": [{"url": "javascript:alert(1)", "title": "t"}, {"url": "file:///etc/passwd"}, {"url": 7}, 5, '
                  b'{"url": "http://a/\\n9. http://forged/", "title": "x"}, {"title": "no address"}, '
                  b'{"url": "http://good/", "title": "a\\n2. http://forged/\\n   t\\u001b[2J", "content": "' + b"c" * 100000 + b'"}]}',
                  b"application/json"),
    "deep": whole(b"[" * 100000, b"application/json"),
    "not_utf8": whole(b'{"results": [{"url": "http://x/\xff\xfe"}]}', b"application/json"),
    "duplicate": whole(b'{"results": [], "results": [{"url": "http://x/"}]}', b"application/json"),
    "plain": whole(b"<p>plain text here</p>"),
}


def endless(conn, head, piece):
    conn.sendall(head)
    while True:
        conn.sendall(piece)


def trickle(conn, head, piece, pause):
    conn.sendall(head)
    while True:
        conn.sendall(piece)
        time.sleep(pause)


def act(conn, name, path, other):
    if name == "seen":
        conn.sendall(whole("\n".join(seen).encode(), b"text/plain"))
    elif name == "never":
        time.sleep(30)
    elif name == "slow":
        trickle(conn, OK, b"X-A: b\r\n", 3)
    elif name == "stall":
        conn.sendall(OK + b"Content-Length: 10\r\n\r\nhalf")
        time.sleep(30)
    elif name == "drip":
        trickle(conn, OK + b"\r\n", b"x", 0.2)
    elif name == "endless":
        endless(conn, OK + b"\r\n", b"<p>and so on" * 1000)
    elif name == "chunk_endless":
        endless(conn, CHUNKED, chunk(b"y" * 10))
    elif name == "chunk_extension":
        endless(conn, CHUNKED + b"5;", b"extension=value;" * 100)
    elif name == "chunk_trailers":
        endless(conn, CHUNKED + chunk(b"hello") + b"0\r\n", b"X-Trailer: more\r\n" * 100)
    elif name == "headers":
        endless(conn, OK, b"X-More: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 100)
    elif name == "header_long":
        endless(conn, OK + b"X-Long: ", b"z" * 10000)
    elif name == "continues":
        endless(conn, b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
    elif name == "long":
        conn.sendall(OK + b"Content-Length: 5\r\n\r\nhello" + b"and more" * 1000)
    elif name == "cookies":
        conn.sendall(whole(b"<p>set</p>", more=b"Set-Cookie: canary=9f31; Path=/\r\n" * 50))
    elif name == "redirect_other":
        conn.sendall(moved(b"http://127.0.0.1:%d/visited" % other))
    elif name == "auth":
        conn.sendall(whole(b"who?", more=b"WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\nWWW-Authenticate: "
                           b"Basic realm=x\r\n", status=b"401 Unauthorized"))
    elif name in FIXED:
        conn.sendall(FIXED[name])
    else:
        conn.sendall(whole(b"no", status=b"404 Not Found"))


ROBOTS = {
    "stars": b"User-agent: *\n" + b"".join(b"Disallow: /" + b"*a" * 120 + b"b%d\n" % i for i in range(1900)),
    "rules": b"User-agent: *\n" + b"Disallow: /x\n" * 40000,
    "line": b"User-agent: *\nDisallow: /" + b"y" * 400000 + b"\n",
    "delay": b"User-agent: *\nCrawl-delay: 1e300\nCrawl-delay: nan\nCrawl-delay: -5\n",
    "binary": bytes(range(256)) * 1000,
}


def serve_one(conn, robots, other):
    conn.settimeout(40)
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            more = conn.recv(65536)
            if not more:
                return
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = next((int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length")), 0)
        while len(body) < length:
            body += conn.recv(65536)
        method, path = head.split(b" ")[:2]
        path = path.decode("latin-1")
        with lock:
            seen.append(f"{method.decode()} {path} " + ("cookie " if b"\r\nCookie:" in head else "")
                        + ("key " if b"authorization" in head.lower() else "") + ("referer" if b"\r\nReferer" in head else ""))
        name = path.split("?")[0].split("/")[1]
        if path == "/robots.txt":
            if robots == "endless":
                endless(conn, OK + b"\r\n", b"Disallow: /x\n" * 1000)
            elif robots == "redirect":
                conn.sendall(moved(b"http://127.0.0.3:%d/robots.txt" % other))
            elif robots == "hang":
                time.sleep(30)
            elif robots:
                conn.sendall(whole(ROBOTS[robots], b"text/plain"))
            else:
                conn.sendall(whole(b"none", status=b"404 Not Found"))
        elif path.endswith("/models"):
            conn.sendall(whole(b'{"data": [{"id": "tiny", "max_model_len": 8192}]}', b"application/json"))
        elif name == "once":  # the first answer is lost after it was made
            with lock:
                first = sum(s.startswith("POST /once") for s in seen) == 1
            conn.sendall(b"" if first else whole(GOOD, b"application/json"))
        else:
            act(conn, name, path, other)
    except (OSError, ValueError, IndexError):
        pass
    finally:
        conn.close()


def listen(robots, other):
    s = socket.create_server(("127.0.0.1", 0), backlog=64)

    def loop():
        while True:
            conn, _ = s.accept()
            threading.Thread(target=serve_one, args=(conn, robots, other), daemon=True).start()

    threading.Thread(target=loop, daemon=True).start()
    return s.getsockname()[1]


other_port = listen("", 0)
ports = [listen("", other_port), other_port]
for mode in sys.argv[1:]:
    ports.append(listen(mode, other_port))
sys.stdout.write(" ".join(map(str, ports)) + "\n")
sys.stdout.flush()
sys.stdin.read()
