"""Small stand-ins for Omniglot's archives, and a server on this machine to download from."""

import io
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import torch
from PIL import Image

CLASSES = {
    "images_background": (
        "images_background/Greek/character01",
        "images_background/Greek/character02",
    ),
    "images_evaluation": ("images_evaluation/Tibetan/character07",),
}
SPLIT = """# split, alphabet, first and last character
train images_background/Greek 1 1
val   images_background/Greek 2 2
test  images_evaluation/Tibetan 7 7
"""


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


class Archives:
    """Two archives in the official layout with three characters, and what they should give."""

    def __init__(self, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        self.members: dict[str, dict[str, bytes]] = {}
        self.images: dict[str, torch.Tensor] = {}
        number = 0
        for stem, names in CLASSES.items():
            self.members[stem] = {}
            for name in names:
                number += 1
                small = []
                for drawer in range(1, 21):
                    image = Image.fromarray(draw.random((105, 105)) < 0.8)
                    self.members[stem][f"{name}/{number:04}_{drawer:02}.png"] = png(image)
                    # Pillow resizes 1-bit images by nearest neighbour only
                    small.append(255 - np.asarray(image.resize((28, 28)).convert("L")))
                self.images[name] = torch.from_numpy(np.stack(small))[:, None]

    def zipped(self, stem: str) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in self.members[stem].items():
                # a member without a time of its own carries the clock's: other bytes a moment later
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        return buffer.getvalue()

    def write(self, root: Path) -> None:
        folder = root / "omniglot"
        folder.mkdir(parents=True)
        for stem in self.members:
            (folder / f"{stem}.zip").write_bytes(self.zipped(stem))


class Server:
    """Answers GET with ``bodies[path]``, announcing ``extra`` bytes more than it sends."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.extra = 0
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                if self.path not in outer.bodies:
                    self.send_error(404)
                    return
                body = outer.bodies[self.path]
                self.send_response(200)
                self.send_header("Content-Length", str(len(body) + outer.extra))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
