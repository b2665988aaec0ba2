"""Run a page's code cells as a plain script: no Jupyter, no kernel; and keep what it found in ``results/``."""

import ast
import datetime
import json
import linecache
import os
import platform
import time
from pathlib import Path

from regbook.press import pages


def run(path: Path, record: bool = False) -> None:
    """Execute the code cells of the page at ``path`` in order; a cell's last expression is printed as text.

    With ``record`` its claims are written to ``results/<topic>/<section>.json``. An exception names the cell and line.
    """
    started = time.perf_counter()
    if record and os.environ.get("REGBOOK_SCALE") != "full":
        raise ValueError("record=True at the small scale; a record is of the full scale: add --scale full")
    # functions of the page count as defined in __main__, as in a notebook: worker processes get them by value
    namespace = {"__name__": "__main__"}
    for number, source in enumerate(pages.code_cells(pages.read(path)), start=1):
        _run_cell(source, f"<{pages.name(path)}, code cell {number}>", namespace)
    seconds = time.perf_counter() - started
    print(f"\n{pages.name(path)}: every cell ran and every claim held, in {seconds:.0f} s")
    if record:
        print("recorded in", _write_record(path, seconds))


def _run_cell(source: str, filename: str, namespace: dict) -> None:
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)  # for tracebacks
    tree = ast.parse(source, filename)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, filename, "exec"), namespace)
    if last and (value := eval(compile(ast.Expression(last.value), filename, "eval"), namespace)) is not None:
        print(value if source.rstrip()[-1] != ";" else "")


def _write_record(path: Path, seconds: float) -> Path:
    import torch

    from regbook import __version__, claims
    from regbook.device import device

    where = device()
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else f"{where.type} ({platform.machine()})"
    content = {
        "page": pages.name(path),
        "date": datetime.date.today().isoformat(),
        "device": name,
        "seed": int(os.environ.get("REGBOOK_SEED", "0")),
        "seconds": round(seconds, 1),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "regbook": __version__},
        "claims": claims.as_record(),
    }
    target = pages.book_root() / "results" / f"{pages.name(path)}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return target


def write_atomically(target: Path, text: str) -> None:
    """Replace ``target`` by ``text`` in one step: an interruption leaves the old file whole."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
