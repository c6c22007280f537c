"""Pictures in a browser on the same computer: one page, each picture as motion JPEG (multipart/x-mixed-replace)."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Annotated, Any

from annotated_types import Ge, Le

from foveate.catalog import optional
from foveate.device import DeviceInfo
from foveate.errors import Busy, NotFound, NotSupported
from foveate_drivers.screens.base import Screen

_PORT = 8010
_SLOW_S = 2.0  # a browser that takes nothing for so long is let go
_LOOK_S = 0.5  # how often a stream without new pictures looks whether the page has ended
_MOST_LOOKERS = 32  # streams at once
_BOUNDARY = "picture"


class PageScreen(Screen):
    """Serves a page with the newest pictures (`page:127.0.0.1:8010`) to this computer alone; port 0 takes a free one.

    Each picture is compressed once, when somebody looks. Who looks slowly misses pictures; closing ends all streams.
    """

    def __init__(self, *, address: str = "127.0.0.1", quality: Annotated[int, Ge(10), Le(100)] = 85) -> None:
        """`quality`: of the JPEGs, 100 = best."""
        super().__init__()
        self._host, self._port = _place(address)
        self._quality = quality
        self._cv2: Any = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._jpeg: dict[str, tuple[int, bytes]] = {}

    @property
    def url(self) -> str:
        """Where the page is; "" while it is closed."""
        return "" if self._server is None else f"http://{self._host}:{self._server.server_address[1]}/"

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.uri, "foveate", "page in a browser")

    def _started(self) -> None:
        self._cv2 = optional("cv2", self.uri, "vision")
        self._jpeg = {}
        try:
            self._server = _Server((self._host, self._port), self)
        except OSError as error:
            kind = Busy if error.errno in (98, 48) else NotFound  # EADDRINUSE of Linux and of macOS
            hint = f"{error.strerror}; take another port, such as page:{self._host}:{self._port + 1}"
            raise kind(self.uri, "open", hint) from None
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name=self.uri, daemon=True)
        self._thread.start()

    def _ended(self) -> None:
        server, thread = self._server, self._thread
        self._server = self._thread = None
        with self._lock:
            self._lock.notify_all()  # streams that wait for a picture look up and end
        if server is not None and thread is not None:
            server.shutdown()
            thread.join(_SLOW_S)
            server.server_close()
            server.hang_up()

    def picture(self, name: str, after: int) -> tuple[int, bytes]:
        """(Number, JPEG) of the newest picture with a number above `after`, waited for a while; (after, b"") if none
        came. Number 0: there is no such picture, or the page has ended."""
        with self._lock:
            if name not in self._newest or self._server is None:
                return 0, b""
            if self._newest[name][0] <= after:
                self._lock.wait(_LOOK_S)
            if name not in self._newest:  # opened anew meanwhile
                return 0, b""
            number, frame = self._newest[name]
            known, data = self._jpeg.get(name, (0, b""))
        if number <= after:
            return after, b""
        if known != number:  # outside the lock: a picture takes milliseconds
            quality = [self._cv2.IMWRITE_JPEG_QUALITY, self._quality]
            data = self._cv2.imencode(".jpg", frame.image, quality)[1].tobytes()
            with self._lock:
                self._jpeg[name] = (number, data)
        return number, data


class _Server(ThreadingHTTPServer):
    """One thread a stream; none of them keeps the process from ending."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, place: tuple[str, int], screen: PageScreen) -> None:
        self.screen = screen
        self.lookers: set[socket.socket] = set()
        if ":" in place[0]:
            self.address_family = socket.AF_INET6
        super().__init__(place, _Handler)

    def hang_up(self) -> None:
        """End connections that are still open: a browser that does not read would hold its thread."""
        for each in list(self.lookers):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # gone already

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _SLOW_S

    def setup(self) -> None:
        super().setup()
        self.server.lookers.add(self.connection)

    def finish(self) -> None:
        self.server.lookers.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        if not _is_local(self.headers.get("Host", "")):  # a page elsewhere whose name was made to lead here
            self.send_error(403, "this page is for this computer alone")
        elif self.path == "/":
            self._answer("text/html; charset=utf-8", _PAGE.encode())
        elif self.path == "/names":
            self._answer("application/json", json.dumps(self.server.screen.names()).encode())
        elif self.path.startswith("/picture/"):
            number, data = self.server.screen.picture(self.path.removeprefix("/picture/").partition("?")[0], 0)
            self._answer("image/jpeg", data) if number else self.send_error(404, "no such picture")
        elif self.path.startswith("/stream/"):
            self._stream(self.path.removeprefix("/stream/"))
        else:
            self.send_error(404, "no such page")

    def _answer(self, kind: str, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, name: str) -> None:
        """Pictures as they come, until the page or the browser ends."""
        number, data = self.server.screen.picture(name, 0)
        if not number or len(self.server.lookers) > _MOST_LOOKERS:
            self.send_error(404 if not number else 503, "no such picture" if not number else "too many are looking")
            return
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(f"--{_BOUNDARY}\r\n".encode())
        while number:
            if data:  # with the next boundary at once: browsers show a part only when it has come
                head = f"Content-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + f"\r\n--{_BOUNDARY}\r\n".encode())
            number, data = self.server.screen.picture(name, number)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the run's own output is on the terminal."""


def _place(address: str) -> tuple[str, int]:
    """(Host, port) of `127.0.0.1:8010`, `localhost`, `[::1]:0`. Raises NotSupported."""
    host, port = _split(address)
    host = "127.0.0.1" if host in ("", "localhost") else host
    if not _is_loopback(host):
        text = "the page has no password and is for this computer alone; take 127.0.0.1, and a tunnel to look from afar"
        raise NotSupported(f"page:{address}", f"serve on '{host[:64]}'", text)
    if port and not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise NotSupported(f"page:{address}", f"serve on port '{port[:16]}'", "it must be 0 to 65535")
    return host, int(port) if port else _PORT


def _split(address: str) -> tuple[str, str]:
    if address.startswith("["):
        host, _, port = address[1:].partition("]")
        return host, port.removeprefix(":")
    host, _, port = address.partition(":")
    return host, port


def _is_local(host: str) -> bool:
    name = _split(host)[0]
    return name == "localhost" or _is_loopback(name)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>foveate</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body{font:15px/1.4 system-ui,sans-serif;margin:0;padding:12px;background:#14181d;color:#dde3ea}
#pictures{display:flex;flex-wrap:wrap;gap:12px} figure{margin:0;flex:1 1 480px;max-width:1100px}
img{width:100%;border-radius:4px;background:#000} figcaption{font-size:13px;color:#9aa7b4}
#state{color:#9aa7b4;margin:0 0 8px}</style></head><body><p id="state">waiting for the first picture</p>
<div id="pictures"></div><script>
const shown=new Set(),streams=4,state=document.getElementById("state");
function add(name){const f=document.createElement("figure"),i=document.createElement("img"),
c=document.createElement("figcaption");c.textContent=name;i.alt=name;f.append(i,c);
if(shown.size<streams)i.src="/stream/"+name; // a browser holds six connections to one server at most
else{const turn=()=>i.src="/picture/"+name+"?"+Date.now();i.onload=()=>setTimeout(turn,300);turn()}
document.getElementById("pictures").append(f);shown.add(name)}
async function look(){try{for(const name of await (await fetch("/names")).json())if(!shown.has(name))add(name);
state.textContent=shown.size?"live":"waiting for the first picture";setTimeout(look,500)}
catch{state.textContent="the run has ended; the pictures are its last"}}
look()</script></body></html>
"""
