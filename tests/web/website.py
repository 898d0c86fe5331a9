"""A real web server (nginx) over the snapshot of a real site, on loopback.

The snapshot is ../shared/web/rdatasets-site.tar.zst beside the project; where it is
absent, start() raises Missing and the test skips with its words.
"""
import os
import shutil
import socket
import subprocess
import tempfile
import time

CONF = """daemon off; pid {dir}/pid; error_log {dir}/error.log; worker_processes 1;
{user}events {{}}
http {{ access_log {dir}/access.log; include /etc/nginx/mime.types; types {{ text/csv csv; }} default_type text/plain;
client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
server {{ listen 127.0.0.1:{port}; root {dir}/site; }} }}
"""


class Missing(Exception):
    pass


class Site:
    def __init__(self, root, port=None):
        archive = os.path.join(root, "..", "shared", "web", "rdatasets-site.tar.zst")
        if not os.path.exists(archive):
            raise Missing("the snapshot ../shared/web/rdatasets-site.tar.zst is not beside the project")
        for program in ("nginx", "zstd"):
            if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin"):
                raise RuntimeError("%s is not installed: ./run test installs it" % program)
        self.dir = tempfile.mkdtemp(prefix="agon-web-")
        os.chmod(self.dir, 0o755)
        os.mkdir(os.path.join(self.dir, "site"))
        subprocess.run(["tar", "-I", "zstd", "-xf", archive, "-C", os.path.join(self.dir, "site")], check=True)
        subprocess.run(["chmod", "-R", "a+rX", os.path.join(self.dir, "site")], check=True)
        self.port = port or free_port()
        conf = os.path.join(self.dir, "nginx.conf")
        with open(conf, "w") as f:
            f.write(CONF.format(dir=self.dir, port=self.port, user="user nobody nogroup;\n" if os.getuid() == 0 else ""))
        self.process = subprocess.Popen(["nginx", "-c", conf], env={"PATH": os.environ["PATH"] + ":/usr/sbin"},
                                        stderr=subprocess.PIPE, text=True)
        for _ in range(100):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            if self.process.poll() is not None:
                raise RuntimeError("nginx did not start: " + self.process.stderr.read()[:300])
            time.sleep(0.05)
        self.url = "http://127.0.0.1:%d" % self.port
        self.host = "127.0.0.1:%d" % self.port

    def requests(self):
        with open(os.path.join(self.dir, "access.log")) as f:
            return [line.split('"')[1] for line in f]

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
        shutil.rmtree(self.dir)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
