"""Execute pages in place, in fresh kernels, so that what is stored is what a reader gets."""

import ast
import asyncio
import json
import os
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from regbook.device import processes
from regbook.press import pages
from regbook.press.run import write_atomically

# What is stored never depends on who stores it: default seeds and scale, one thread, no progress bars.
ENVIRONMENT = {
    "REGBOOK_DEVICE": "cpu",
    "REGBOOK_SCALE": "small",
    "REGBOOK_SEED": "0",
    "REGBOOK_PROGRESS": "0",
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "agg",
}
PEAK = "__import__('resource').getrusage(__import__('resource').RUSAGE_SELF).ru_maxrss"
CLAIMS = "__import__('json').dumps(__import__('regbook.claims').claims.as_record())"


def execute(paths: list[Path], timeout: int = 300) -> bool:
    """Execute each page and replace it where all its cells ran; True if all did. Prints seconds and memory per page."""
    return all(asyncio.run(_execute_all(paths, timeout)))


async def _execute_all(paths: list[Path], timeout: int) -> list[bool]:
    cores = processes()
    together = min(cores, len(paths), 2)
    environment = os.environ | ENVIRONMENT | {"REGBOOK_PROCESSES": str(cores // max(together, 1))}
    gate = asyncio.Semaphore(max(together, 1))

    async def one(path: Path) -> bool:
        async with gate:
            return await _execute(path, environment, timeout)

    return await asyncio.gather(*map(one, paths))


async def _execute(path: Path, environment: dict[str, str], timeout: int) -> bool:
    started, name = time.perf_counter(), pages.name(path)
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=timeout, kernel_name="python3", record_timing=False, coalesce_streams=True,
        store_widget_state=False, shutdown_kernel="immediate", extra_arguments=["--IPKernelApp.log_level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
    )  # fmt: skip
    number = 0
    try:
        async with client.async_setup_kernel(env=environment):
            for index, cell in enumerate(notebook.cells):
                if cell.cell_type == "code":
                    number += 1
                    await client.async_execute_cell(cell, index, execution_count=number)
            memory, claims = await _ask(client, PEAK), await _ask(client, CLAIMS)
    except Exception as error:  # the cell's own error, a timeout, a kernel that died: the stored page stays as it was
        print(f"{name}: code cell {number} failed; the page was left as it was\n{error}", flush=True)
        return False
    notebook.metadata = nbformat.from_dict({
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "regbook": {"digest": pages.digest(path), "claims": json.loads(claims or "[]")},
    })  # fmt: skip
    write_atomically(path, nbformat.writes(notebook, version=4) + "\n")
    print(f"{name}: {time.perf_counter() - started:.1f} s, {(memory or 0) / 1024:.0f} MiB", flush=True)
    return True


async def _ask(client: NotebookClient, expression: str) -> int | str | None:
    """The value of an expression in the page's kernel: its largest resident size in KiB, or its claims; None if it has none."""
    message = client.kc.execute("", silent=True, user_expressions={"value": expression})
    while True:
        reply = await client.kc.get_shell_msg(timeout=30)
        if reply["parent_header"].get("msg_id") == message:
            answer = reply["content"]["user_expressions"]["value"]
            return ast.literal_eval(answer["data"]["text/plain"]) if answer["status"] == "ok" else None
