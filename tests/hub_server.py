"""A hub of one dataset on loopback: the few requests of Hugging Face's that streaming it takes.

    python tests/hub_server.py FOLDER COMMIT

serves the files of FOLDER as the dataset `org/name` at that commit, and prints its port.
"""

import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    commit: str

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        api, files = "/api/datasets/org/name", f"/datasets/org/name/resolve/{self.commit}/"
        if path == api or path.startswith(f"{api}/revision/"):
            if path.rpartition("/")[2] in {"name", "main", self.commit}:
                names = [{"rfilename": each["path"]} for each in self.entries()]
                self.answer({"id": "org/name", "sha": self.commit, "siblings": names, "private": False})
            else:
                self.refuse("RevisionNotFound")
        elif path.startswith(f"{api}/tree/{self.commit}"):
            self.answer(self.entries())
        elif path.startswith(files) and (self.folder / path.removeprefix(files)).is_file():
            self.send_file(self.folder / path.removeprefix(files))
        else:
            self.refuse("EntryNotFound" if path.startswith((api, files)) else "RepoNotFound")

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        is_json = "json" in self.headers.get("Content-Type", "")
        asked = set(json.loads(body)["paths"] if is_json else parse_qs(body).get("paths", []))
        self.answer([each for each in self.entries() if each["path"] in asked])

    def entries(self) -> list[dict[str, object]]:
        return [
            {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": _oid(path)}
            for path in sorted(self.folder.iterdir())
        ]

    def send_file(self, path: Path) -> None:
        data, status = path.read_bytes(), 200
        headers = {"ETag": f'"{_oid(path)}"', "X-Repo-Commit": self.commit, "Accept-Ranges": "bytes"}
        if span := self.headers.get("Range"):
            start, _, end = span.removeprefix("bytes=").partition("-")
            status = 206
            last = min(int(end or len(data)), len(data) - 1)
            headers["Content-Range"] = f"bytes {start}-{last}/{len(data)}"
            data = data[int(start) : last + 1]
        self.send(status, data, headers)

    def answer(self, value: object) -> None:
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def refuse(self, code: str) -> None:
        self.send(404, b"", {"X-Error-Code": code})

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _oid(path: Path) -> str:
    return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()


if __name__ == "__main__":
    Hub.folder, Hub.commit = Path(sys.argv[1]), sys.argv[2]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    print(server.server_port, flush=True)  # noqa: T201
    server.serve_forever()
