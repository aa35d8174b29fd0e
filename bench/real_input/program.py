"""The program under measurement, the machine it runs on, and the files that results go to. The standard library suffices."""

import argparse
import datetime
import json
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def parser(description: str, result: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--program", default=ROOT / "build/vtl-finetune", type=pathlib.Path)
    made.add_argument("--out", default=ROOT / "bench/results" / result, type=pathlib.Path, help="without extension")
    return made


def run(program: pathlib.Path, *words) -> dict:
    """The object that `program words --json` prints."""
    command = [str(program), *map(str, words), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}\n{done.stderr}")
    return json.loads(done.stdout)


def write(args: argparse.Namespace, title: str, text: list[str], rows: list[dict], columns: dict) -> str:
    """OUT.json with the rows, OUT.md with a table, which is returned; `columns`: heading -> what of a row stands there."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    machine = run(args.program, "doctor")["cpu"]
    script = pathlib.Path(sys.argv[0]).resolve().relative_to(ROOT)
    facts = {"date": datetime.date.today().isoformat(), "cpu": machine["name"], "cores": machine["cores"], "commit": commit,
             "command": shlex.join([str(script), *sys.argv[1:]])}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")
    lines = [f"# {title}", "", f"{facts['date']}, {facts['cpu']}, {facts['cores']} cores; vtl {commit}.", *text, "", f"    {facts['command']}", "",
             "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(show(row)) for show in columns.values()) + " |" for row in rows]
    table = "\n".join(lines) + "\n"
    args.out.with_suffix(".md").write_text(table)
    return table
