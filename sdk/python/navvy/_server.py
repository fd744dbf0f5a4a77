"""Which server to speak with, as the navvy command finds it; and how to start a local one."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Dict, Optional
from urllib.parse import urlsplit

from ._wire import CONNECT_TIME, Socket, TLSSocket, Transport
from .errors import Denied, Error, Invalid, Unavailable

DEFAULT_PORT = 7480  # of HTTP
START_TIME = 30.0  # seconds for a local navvy to begin serving


def find(url: Optional[str], token: Optional[str], cert: Optional[str], key: Optional[str], ca: Optional[str],
         data: Optional[str]) -> Transport:
    """The transport to the server that arguments, environment or contexts name, in this order."""
    if data is not None and (url or token or cert):
        raise Invalid("data is a directory of this machine: give either that or a server")
    if data is not None:
        return local(Path(data))
    if url is None and token is None:
        env = os.environ
        url = env.get("NAVVY_URL") or None
        if url is None and (env.get("NAVVY_SERVER") or env.get("NAVVY_CONTEXT") or has_contexts()):
            named = context()
            if named is not None:
                host = named["server"].rpartition(":")[0]
                url = f"https://{host}:{DEFAULT_PORT}"
                cert, key, ca = cert or named["cert"], key or named["key"], ca or named["ca"]
        if url is None:
            return local(data_dir())
        token = env.get("NAVVY_API_TOKEN") or None
        cert, key, ca = cert or env.get("NAVVY_CERT"), key or env.get("NAVVY_KEY"), ca or env.get("NAVVY_CA")
    return remote(url or f"http://127.0.0.1:{DEFAULT_PORT}", token, cert, key, ca)


def remote(url: str, token: Optional[str], cert: Optional[str], key: Optional[str], ca: Optional[str]) -> Transport:
    """A server over TCP: https with a certificate, or http on loopback with a token."""
    parts = urlsplit(url if "://" in url else "https://" + url)
    host, port = parts.hostname, parts.port or DEFAULT_PORT
    if parts.scheme not in ("http", "https") or not host or parts.path.strip("/"):
        raise Invalid(f"{url!r} is no address of a server: want https://HOST:PORT, or http://localhost:PORT with a token")
    headers = {"Host": f"[{host}]:{port}" if ":" in host else f"{host}:{port}"}
    if parts.scheme == "http":
        if token is None:
            raise Invalid(f"{url}: over plain HTTP a token says who calls: navvy token create --api makes one")
        headers["Authorization"] = "Bearer " + token
        return Transport(lambda: Socket(socket.create_connection((host, port), CONNECT_TIME)), headers, url)
    if not (cert and key and ca):
        raise Invalid(f"{url}: give the files of your certificate, its key and the server's authority: cert=, key=, ca=")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.set_alpn_protocols(["http/1.1"])
    try:
        tls.load_verify_locations(ca)
        tls.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as e:
        raise Invalid(f"{url}: cannot read {cert}, {key} or {ca}: {e}") from e
    return Transport(lambda: TLSSocket(socket.create_connection((host, port), CONNECT_TIME), tls, str(host)), headers, url)


def data_dir() -> Path:
    """Where a navvy of this machine keeps its data."""
    env = os.environ
    if env.get("NAVVY_DATA"):
        return Path(env["NAVVY_DATA"])
    state = env.get("XDG_STATE_HOME", "")
    return (Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state") / "navvy"


def has_contexts() -> bool:
    """Tell whether this user has a file of contexts."""
    config = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(config) if os.path.isabs(config) else Path.home() / ".config"
    return (base / "navvy" / "config.yaml").exists()


def context() -> Optional[Dict[str, str]]:
    """The server of the current context, or None for this machine. The navvy command says it."""
    try:
        text = subprocess.run([binary(), "context", "show", "-o", "json"], check=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=CONNECT_TIME).stdout
        named = json.loads(text)
    except subprocess.CalledProcessError as e:
        raise Invalid("navvy context show: " + e.stderr.decode("utf-8", "replace").strip()) from e
    except (subprocess.TimeoutExpired, ValueError) as e:
        raise Error(f"navvy context show: {e}") from e
    return named if named.get("server") else None


def binary() -> str:
    """The navvy command."""
    named = os.environ.get("NAVVY_BIN") or "navvy"
    path = shutil.which(named)
    if path is None:
        raise Unavailable(f"there is no {named}: put the navvy command on PATH, name it with NAVVY_BIN, or give connect() a server")
    return path


def local(data: Path) -> Transport:
    """The navvy of this machine that holds a data directory; it is started if none does."""
    data = data.absolute()
    transport = Transport(lambda: dial_local(data), {"Host": "navvy"}, str(data))
    transport.here = True
    return transport


def dial_local(data: Path) -> Socket:
    """Connect to whoever holds the directory. Without one, a navvy in the background
    takes it: it ends when there is nothing left to do and nobody is connected."""
    until = time.monotonic() + START_TIME
    pause = 0.005
    while True:
        try:
            return connect_unix(data / "http.sock")
        except PermissionError as e:
            raise Denied(f"{data} is another user's") from e
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            pass
        if time.monotonic() > until:
            raise Unavailable(f"{data} is held by a process that does not answer; see which one with fuser -v {data}/lock")
        start(data)
        time.sleep(pause)  # somebody else may have been faster, and not serve yet
        pause = min(2 * pause, 0.2)


def connect_unix(path: Path) -> Socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(CONNECT_TIME)
        try:
            sock.connect(str(path))
        except OSError as e:
            if "too long" not in str(e):
                raise
            folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)  # longer than an address may be
            try:
                sock.connect(f"/proc/self/fd/{folder}/{path.name}")
            finally:
                os.close(folder)
        return Socket(sock)
    except BaseException:
        sock.close()
        raise


def start(data: Path) -> None:
    """Start a navvy in the background, as navvy map -d does, and wait until it serves. It
    says so on descriptor 3; nothing, if somebody else was faster."""
    command = binary()
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    ready, tell = os.pipe()
    try:
        with open(data / "holder.log", "ab", opener=private) as log:
            # A shell gives the descriptor its number: subprocess can do so only by running
            # Python between fork and exec, which threads make unsafe.
            process = subprocess.Popen(["/bin/sh", "-c", 'exec "$0" holder --data "$1" 3>&0 0</dev/null', command, str(data)],
                                       stdin=tell, stdout=log, stderr=log, cwd="/", start_new_session=True, env=outside())
    finally:
        os.close(tell)
    with open(ready, "rb") as told:
        word = told.read().decode("utf-8", "replace")
    reap(process)
    if word not in ("", "serving\n"):
        raise Unavailable(f"navvy cannot start on {data}: {word.partition(' ')[2] or word}")


def private(path: str, flags: int) -> int:
    """Open a file that is its owner's alone."""
    return os.open(path, flags, 0o600)


def outside() -> Dict[str, str]:
    """The environment of a navvy: without what another one tells a task about itself, and
    with the Python that runs here, which finds the modules that lie beside the program."""
    own = ("NAVVY_JOB", "NAVVY_INDEX", "NAVVY_ATTEMPT", "NAVVY_SLOT", "NAVVY_TOKEN", "NAVVY_ADDR", "NAVVY_TASK_TOKEN")
    env = {name: value for name, value in os.environ.items() if name not in own}
    if sys.executable:
        env.setdefault("NAVVY_PYTHON", sys.executable)
    beside = [os.path.abspath(sys.path[0])] if sys.path and not getattr(sys.flags, "safe_path", False) else []
    env.setdefault("NAVVY_PYTHON_PATH", os.pathsep.join(beside + [d for d in env.get("PYTHONPATH", "").split(os.pathsep) if d]))
    return env


def reap(process: "subprocess.Popen[bytes]") -> None:
    """Wait for the process when it ends, whoever outlives whom."""
    threading.Thread(target=process.wait, name="navvy-holder", daemon=True).start()
