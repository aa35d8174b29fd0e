"""Small pictures of every kind that is read, and their pixels by Pillow: tests/golden/io/images/* and images.json."""

import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

from golden_file import GOLDEN, write_json

FOLDER = GOLDEN / "io" / "images"
WIDTH, HEIGHT = 13, 9


def colours(channels: int) -> np.ndarray:
    y, x, c = np.mgrid[0:HEIGHT, 0:WIDTH, 0:channels]
    return ((x * 19 + y * 11 * (c + 1) + c * 60) % 256).astype(np.uint8)


def png(color_type: int, depth: int, rows: list[bytes], extra: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, color_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    parts = [chunk(b"IHDR", header)]
    if extra:
        parts.append(chunk(extra[:4], extra[4:]))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def write_pictures() -> None:
    rgb, rgba, grey, inks = (Image.fromarray(colours(n).squeeze(), mode) for n, mode in [(3, "RGB"), (4, "RGBA"), (1, "L"), (4, "CMYK")])
    for name, options in [("444", {"subsampling": 0}), ("420", {"subsampling": 2}), ("422", {"subsampling": 1}),
                          ("progressive", {"progressive": True})]:
        rgb.save(FOLDER / f"{name}.jpg", quality=90, **options)
    grey.save(FOLDER / "grey.jpg", quality=90)
    inks.save(FOLDER / "cmyk.jpg", quality=90)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        rgb.save(FOLDER / f"orientation{orientation}.jpg", quality=90, subsampling=0, exif=exif)
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(FOLDER / "orientation6.png", exif=exif)
    rgb.save(FOLDER / "rgb.png")
    rgba.save(FOLDER / "rgba.png")
    Image.merge("LA", [grey, grey.transpose(Image.FLIP_LEFT_RIGHT)]).save(FOLDER / "grey_alpha.png")
    grey.save(FOLDER / "grey.png")
    rgb.quantize(16).save(FOLDER / "palette.png", bits=4)
    rgb.quantize(200).save(FOLDER / "palette_transparent.png", transparency=3)
    grey.convert("1").save(FOLDER / "bits.png")
    rgb.save(FOLDER / "transparent_colour.png", transparency=(0, 0, 0))
    deep = colours(3).astype(np.uint16) * 256 + np.arange(WIDTH * HEIGHT * 3, dtype=np.uint16).reshape(HEIGHT, WIDTH, 3) % 256
    (FOLDER / "rgb16.png").write_bytes(png(2, 16, [row.astype(">u2").tobytes() for row in deep]))
    rgb.save(FOLDER / "rgb.bmp")
    rgb.quantize(16).save(FOLDER / "palette.bmp")
    rgb.save(FOLDER / "rgb.ppm")
    grey.save(FOLDER / "grey.pgm")
    grey.convert("1").save(FOLDER / "bits.pbm")
    values = "\n".join(str(v) for v in colours(3).reshape(-1) // 17)
    (FOLDER / "text.ppm").write_text(f"P3 # a comment\n{WIDTH} {HEIGHT}\n15\n{values}\n")
    (FOLDER / "text.pgm").write_text(f"P2 {WIDTH} {HEIGHT} 100\n{' '.join(str(v % 101) for v in colours(1).reshape(-1))}\n")
    bits = "".join(str(v % 2) for v in colours(1).reshape(-1))
    (FOLDER / "text.pbm").write_text(f"P1\n{WIDTH} {HEIGHT}\n{bits}\n")
    (FOLDER / "rgb16.ppm").write_bytes(f"P6 {WIDTH} {HEIGHT} 65535\n".encode() + deep.astype(">u2").tobytes())
    rgb.save(FOLDER / "rgb.tga")
    rgb.save(FOLDER / "run_length.tga", compression="tga_rle")
    for name in ["gif", "tiff", "webp"]:
        rgb.save(FOLDER / f"unreadable.{name}")


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_pictures()
    expected = {}
    for path in sorted(FOLDER.iterdir()):
        if path.stem == "unreadable":
            continue
        seen = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        expected[path.name] = {"width": seen.width, "height": seen.height, "pixels": seen.tobytes().hex()}
    write_json("io/images.json", expected)


if __name__ == "__main__":
    main()
