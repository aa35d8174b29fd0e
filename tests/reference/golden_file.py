"""Where golden files live and how they are written: the one place that knows their folder and their JSON style."""

import json
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent.parent / "golden"


def write_json(relative: str, content: dict) -> Path:
    """Writes `content` below tests/golden: objects indented down to the third level, deeper values on one line.

    Floats are written with as many digits as bring the same double back.
    """
    path = GOLDEN / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_format(content, depth=0) + "\n")
    return path


def _format(value, depth: int) -> str:
    if depth >= 2 or not isinstance(value, dict) or not value:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(", ", ": "))
    indent = " " * (depth + 1)
    lines = (f"{indent}{json.dumps(key)}: {_format(item, depth + 1)}" for key, item in value.items())
    return "{\n" + ",\n".join(lines) + "\n" + " " * depth + "}"
