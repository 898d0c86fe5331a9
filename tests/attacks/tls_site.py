"""nginx with good and bad certificates on loopback, for the attacks of row H.

Prints its folder (ca.pem, hosts) and its ports: a good certificate, an expired one, one of nobody,
IPv6 without TLS. Serves until standard input closes.
"""
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

CONF = """daemon off; pid {dir}/pid; error_log {dir}/error.log; worker_processes 1;
{user}events {{}}
http {{ access_log {dir}/access.log; default_type text/html; gzip on; gzip_min_length 1; gzip_types *;
client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
ssl_certificate_key {dir}/key.pem;
server {{ listen 127.0.0.1:{0} ssl; ssl_certificate {dir}/good.pem; root {dir}/site;
  location /down {{ return 302 http://good.test:{3}/; }} }}
server {{ listen 127.0.0.1:{1} ssl; ssl_certificate {dir}/old.pem; root {dir}/site; }}
server {{ listen 127.0.0.1:{2} ssl; ssl_certificate {dir}/self.pem; root {dir}/site; }}
server {{ listen {v6}:{3}; root {dir}/site; }} }}
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


folder = tempfile.mkdtemp(prefix="agon-tls-")


def openssl(*args):
    subprocess.run(["openssl", *args], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def make_certificates():
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=a test's authority")
    openssl("req", *new, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=good.test")
    with open(os.path.join(folder, "names"), "w") as f:
        f.write("subjectAltName=DNS:good.test")
    sign = ["x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names"]
    openssl(*sign, "-days", "2", "-out", "good.pem")
    openssl(*sign, "-days", "-1", "-out", "old.pem")
    openssl("req", "-x509", "-key", "key.pem", "-out", "self.pem", "-days", "2", "-subj", "/CN=good.test")


os.chmod(folder, 0o755)
os.mkdir(os.path.join(folder, "site"))
with open(os.path.join(folder, "site", "index.html"), "w") as page:
    page.write("<p>a page of nginx</p>\n" * 100)
make_certificates()
ports = [free_port() for _ in range(4)]
with open(os.path.join(folder, "nginx.conf"), "w") as conf:
    v6 = "[::1]" if os.path.exists("/proc/net/if_inet6") else "127.0.0.1"
    conf.write(CONF.format(*ports, dir=folder, v6=v6, user="user nobody nogroup;\n" if os.getuid() == 0 else ""))
nginx = subprocess.Popen(["nginx", "-c", os.path.join(folder, "nginx.conf")],
                         env={"PATH": os.environ["PATH"] + ":/usr/sbin"}, stderr=subprocess.DEVNULL)
for _ in range(200):
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", ports[0])) == 0:
            break
    time.sleep(0.02)
sys.stdout.write(" ".join([folder, *map(str, ports)]) + "\n")
sys.stdout.flush()
sys.stdin.read()
nginx.terminate()
nginx.wait(10)
shutil.rmtree(folder)
