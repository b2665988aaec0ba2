"""``python -m regbook execute | run | stale | portable``: what a page's author does from the command line."""

import argparse
import os
import sys
import traceback

from regbook.press import pages


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and do it; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return options.do(options)
    except pages.PageError as error:
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m regbook", description="Execute, run and check the pages of the book.")
    commands = parser.add_subparsers(required=True)

    execute = commands.add_parser("execute", help="run pages in place, storing their outputs; default: those that are stale")
    execute.add_argument("pages", nargs="*", metavar="PAGE")
    execute.add_argument("--all", action="store_true", help="every page, stale or not")
    execute.set_defaults(do=_execute)

    run = commands.add_parser("run", help="run one page as a plain script, without Jupyter; stores nothing")
    run.add_argument("page", metavar="PAGE")
    run.add_argument("--scale", choices=("small", "full"), default="small")
    run.add_argument("--seed", type=int, default=0, metavar="K", help="shift every seed of the page (REGBOOK_SEED)")
    run.add_argument("--device", help="cpu, cuda or mps (REGBOOK_DEVICE); default: the best one present")
    run.add_argument("--record", action="store_true", help="write what the claims found to results/ (needs --scale full)")
    run.set_defaults(do=_run)

    portable = commands.add_parser("portable", help="write every page as one self-contained notebook, under _build/portable")
    portable.set_defaults(do=_portable)

    stale = commands.add_parser("stale", help="list the pages whose stored outputs are stale; exit 1 if there are any")
    stale.set_defaults(do=_stale)
    return parser


def _execute(options: argparse.Namespace) -> int:
    from regbook.press.execute import execute

    chosen = [pages.find(page) for page in options.pages] or [p for p in pages.all_pages() if options.all or pages.is_stale(p)]
    if not chosen:
        print("no page is stale")
    return 0 if execute(chosen) else 1


def _run(options: argparse.Namespace) -> int:
    if options.record and options.scale != "full":
        print("--record keeps full-scale runs: add --scale full", file=sys.stderr)
        return 2
    os.environ.update(REGBOOK_SCALE=options.scale, REGBOOK_SEED=str(options.seed), MPLBACKEND="agg")
    if options.device:
        os.environ["REGBOOK_DEVICE"] = options.device
    from regbook.press.run import run

    page = pages.find(options.page)
    try:
        run(page, record=options.record)
    except Exception:  # the interpreter itself would not show the lines of a cell
        traceback.print_exc()
        return 1
    return 0


def _portable(options: argparse.Namespace) -> int:
    from regbook.press.portable import make

    print("\n".join(map(str, make(pages.all_pages()))))
    return 0


def _stale(options: argparse.Namespace) -> int:
    stale = [path for path in pages.all_pages() if pages.is_stale(path)]
    print("\n".join(map(pages.name, stale)) or "no page is stale")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
