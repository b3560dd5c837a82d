"""A web server on this machine, for tests of downloads, that can cut, lie, fail and be slow."""

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Serves ``files`` by path; ``plan`` holds what it does at each further request (default: the right thing).

    Args:
        seconds: that each answer takes.
    """

    def __init__(self, seconds: float = 0.0):
        self.seconds = seconds
        self.files, self.plan, self.requests, self.encodings = {}, [], [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                outer.requests.append((self.path, self.headers.get("Range")))
                outer.encodings.append(self.headers.get("Accept-Encoding"))
                outer.answer(self, outer.plan.pop(0) if outer.plan else "serve")

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request, action):
        content = self.files.get(request.path)
        if isinstance(action, int) or content is None:
            request.send_error(action if isinstance(action, int) else 404)
            return
        start = 0
        if (asked := request.headers.get("Range")) and action != "no ranges":
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(content)}")
                request.send_header("Content-Length", "0")
                request.end_headers()
                return
            request.send_response(206)
            shift = 1 if action == "wrong range" else 0
            request.send_header("Content-Range", f"bytes {start - shift}-{len(content) - 1}/{len(content)}")
        else:
            request.send_response(200)
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        end = start + (len(content) - start) // 2 if action == "cut" else len(content)
        pieces = 50 if self.seconds else 1
        size = -(-(end - start) // pieces)
        with contextlib.suppress(ConnectionError):
            for piece in range(start, end, size):
                request.wfile.write(content[piece : min(piece + size, end)])
                time.sleep(self.seconds / pieces)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
