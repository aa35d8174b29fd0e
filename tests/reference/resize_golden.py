"""Golden values of resizing and evaluation preprocessing, from Pillow, torchvision and timm.

    python resize_golden.py [--shared FOLDER]          writes tests/golden/io/resize.json and imagenet_samples.json
    python resize_golden.py --check DUMP --shared FOLDER  compares every pixel with what the C++ side wrote into DUMP by
        VTL_DUMP=DUMP vtl_tests --no-skip --test-case="dump the preprocessed photographs"
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_eval

from golden_file import write_json

FILTERS = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}
PICTURES = [(61, 47), (25, 58), (70, 19)]
SAMPLES = 64


def picture(n: int) -> Image.Image:
    """Ramps, squares and stripes; `generated_picture` in tests/harness/pictures.h is the same formula."""
    width, height = PICTURES[n]
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    value = x * (c + 2) + y * (n + 1) + ((x // 8 + y // 8) % 2) * 90 + ((x * 31 + y * 17 + c * 11 + n * 13) % 29) * 3
    return Image.fromarray((value % 256).astype(np.uint8))


def evaluation(image: Image.Image, size, crop_pct: float, filter_name: str, mode: str) -> np.ndarray:
    transform = transforms_imagenet_eval(img_size=size, crop_pct=crop_pct, interpolation=filter_name, crop_mode=mode, normalize=False)
    return transform(image).permute(1, 2, 0).contiguous().numpy()


def pixels(image) -> str:
    return np.asarray(image, dtype=np.uint8).tobytes().hex()


def resize_cases():
    for n in range(len(PICTURES)):
        image = picture(n)
        width, height = image.size
        for name, kernel in FILTERS.items():
            for size in [(17, 13), (72, 9), (9, 60), (width, 8), (14, height)]:
                yield {"picture": n, "filter": name, "box": [0, 0, width, height], "size": size, "pixels": pixels(image.resize(size, kernel))}
            box = [3.25, 5.5, width - 7.75, height - 2.125]  # exact in float, which Pillow keeps boxes in
            yield {"picture": n, "filter": name, "box": box, "size": [16, 14], "pixels": pixels(image.resize((16, 14), kernel, box=box))}


def evaluation_cases():
    for n in range(len(PICTURES)):
        for name in FILTERS:
            for mode, size, crop_pct in [("center", (18, 18), 0.875), ("center", (16, 20), 0.9), ("center", (21, 21), 1.0),
                                         ("squash", (18, 14), 0.9), ("border", (18, 18), 0.875), ("border", (16, 16), 1.0)]:
                square = size[0] if size[0] == size[1] and mode == "center" else size
                yield {"picture": n, "filter": name, "mode": mode, "size": size, "crop_pct": crop_pct,
                       "pixels": pixels(evaluation(picture(n), square, crop_pct, name, mode))}


def photographs(shared: Path):
    for path in sorted((shared / "data" / "imagenet_samples").glob("*.JPEG")):
        yield path, Image.open(path).convert("RGB")


def sampled(shared: Path) -> dict:
    at = (np.arange(SAMPLES) * 2357 + 11) % (224 * 224 * 3)
    return {path.name: {name: pixels(evaluation(image, 224, 0.875, name, "center").reshape(-1)[at]) for name in FILTERS}
            for path, image in photographs(shared)}


def check(dump: Path, shared: Path) -> None:
    for kind in ["decoded", *FILTERS]:
        worst = differing = count = 0
        for path, image in photographs(shared):
            expected = np.asarray(image) if kind == "decoded" else evaluation(image, 224, 0.875, kind, "center")
            ours = np.fromfile(dump / f"{path.name}.{kind}", dtype=np.uint8).reshape(expected.shape)
            difference = np.abs(ours.astype(int) - expected.astype(int))
            worst, differing, count = max(worst, difference.max()), differing + (difference > 0).sum(), count + difference.size
        print(f"{kind}: largest difference {worst}, {differing} of {count} values differ")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[3] / "shared")
    parser.add_argument("--check", type=Path)
    arguments = parser.parse_args()
    if arguments.check:
        check(arguments.check, arguments.shared)
        return
    write_json("io/resize.json", {"resize": {str(i): case for i, case in enumerate(resize_cases())},
                                  "evaluation": {str(i): case for i, case in enumerate(evaluation_cases())}})
    write_json("io/imagenet_samples.json", sampled(arguments.shared))


if __name__ == "__main__":
    main()
