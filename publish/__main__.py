"""The command line: `python -m publish COMMAND`; `--help` lists them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 1 when a post or page failed, 2 for what cannot be asked."""
    options = _parser().parse_args(arguments)
    options.root = options.root.resolve()
    try:
        status = options.command(options) or 0
        sys.stdout.flush()
        return status
    except ValueError as error:
        print(f"publish: {error}", file=sys.stderr)
        return getattr(error, "status", 2)  # a page that cannot be rendered says 1
    except BrokenPipeError:  # whoever read us has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:
        print(f"publish: {error.filename or 'the system'}: {error.strerror or error}", file=sys.stderr)
        return 1


def _list(options: argparse.Namespace) -> None:
    from publish import listing

    rows = listing.rows(options.root)
    print(json.dumps(rows, indent=1) if options.json else listing.table(rows))


def _run(options: argparse.Namespace) -> int:
    from publish import outcome, process, runner

    if options.in_place and options.out:
        raise ValueError("--in-place and --out exclude each other")
    out = None if options.in_place else (options.out or options.root / "_build" / "posts").resolve()
    request = _request(options, out)
    try:
        results = runner.run(request)
    except process.Interrupted as interrupted:
        return _interrupted(interrupted)
    if not results:
        print("nothing to run: all posts are fresh")
    if claimed := outcome.claims(results, request):
        print(f"\n{claimed}")
    if failed := outcome.summary(results, request):
        print(f"\n{failed}", file=sys.stderr)
    return 1 if failed else 0


def _build(options: argparse.Namespace) -> int:
    from publish import process
    from publish.build import build

    request = _request(options, options.root / "_build" / "posts")
    try:
        return build(request, (options.out or options.root / "_site").resolve(), options.engine)
    except process.Interrupted as interrupted:
        return _interrupted(interrupted)


def _gpu(options: argparse.Namespace) -> int:
    from publish import gpu, process

    out = (options.out or options.root / "_build" / "gpu").resolve()
    try:
        return gpu.run(gpu.Request(options.root, out, tuple(options.only), tuple(options.skip), options.minutes))
    except process.Interrupted as interrupted:
        return _interrupted(interrupted)


def _request(options: argparse.Namespace, out: Path | None) -> object:
    from publish.options import Options

    chosen = {key: getattr(options, key) for key in ("budget", "stale", "jobs", "timeout") if hasattr(options, key)}
    return Options(options.root, out, only=tuple(getattr(options, "only", None) or ()), **chosen)


def _interrupted(interrupted: Exception) -> int:
    print("stopped; every notebook is as it was or done, and no kernel is left", file=sys.stderr)
    return 128 + interrupted.args[0]


def _new(options: argparse.Namespace) -> None:
    from publish.new import new

    path = new(options.root, options.name)
    print(f"{path.relative_to(options.root)} is made; write it, and execute it with:")
    print(f"  python -m publish run --in-place --only {options.name}")


def _render(options: argparse.Namespace) -> None:
    from publish.render import render

    print(render(options.root, (options.out or options.root / "_site").resolve(), options.posts, options.engine))


def _serve(options: argparse.Namespace) -> None:
    from publish.serve import serve

    serve(options.root / "_site", options.port)


def _results(options: argparse.Namespace) -> None:
    from publish import results

    print(results.write(options.root))


def _address(options: argparse.Namespace) -> None:
    from publish import address

    print(address.write(options.root) or "the repository's address is not set: nothing to write")


def _clean(options: argparse.Namespace) -> None:
    from publish.clean import clean

    clean(options.root)


def _links(options: argparse.Namespace) -> int:
    from publish.links import check

    problems = check(options.root / "_site")
    print("\n".join(map(str, problems)) or "every link, anchor and picture is there")
    return 1 if problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m publish", description="Execute and render the posts.")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository (here)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: object, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text.capitalize())
        added.set_defaults(command=function)
        return added

    def execution(added: argparse.ArgumentParser) -> None:
        added.add_argument(
            "--budget", default="auto", help="auto (gpu where there is one, else cpu), smoke, cpu or gpu"
        )
        added.add_argument("--jobs", type=int, default=1, metavar="N", help="posts at a time (1)")
        added.add_argument("--timeout", type=float, metavar="SECONDS", help="longest time a cell may take (any)")

    added = command("list", _list, "list the posts: fresh, stale and why, unverified or never run")
    added.add_argument("--json", action="store_true", help="as JSON")

    added = command("run", _run, "execute posts into _build/posts, or in place")
    execution(added)
    added.add_argument("--only", nargs="+", metavar="PATTERN", help="numbers, names, parts of names or patterns")
    added.add_argument("--stale", action="store_true", help="only posts that are not fresh")
    added.add_argument("--in-place", action="store_true", help="replace the committed outputs")
    added.add_argument("--out", type=Path, metavar="DIR", help="where executed copies go (_build/posts)")

    added = command(
        "gpu", _gpu, "execute posts and measurements on a GPU, the most valuable first, what is not done yet"
    )
    added.add_argument("--only", nargs="+", default=(), metavar="PATTERN", help="numbers, names, patterns: 02 bench/*")
    added.add_argument("--skip", nargs="+", default=(), metavar="PATTERN", help="what to leave out")
    added.add_argument("--minutes", type=float, metavar="N", help="begin and go on with nothing after so many")
    added.add_argument("--out", type=Path, metavar="DIR", help="where results go, beside the project (_build/gpu)")

    added = command("new", _new, "make a post that runs")
    added.add_argument("name", metavar="NN-slug")

    added = command("render", _render, "render the posts as they are into _site")
    _engine(added)
    added.add_argument(
        "--posts", type=Path, metavar="DIR", help="executed copies to show in place of committed outputs"
    )

    added = command("build", _build, "execute every post that changed into _build, and render _site")
    execution(added)
    _engine(added)

    added = command("serve", _serve, "serve _site on this machine")
    added.add_argument("--port", type=int, default=4200)
    command("results", _results, "collect the records into the results page's table")
    command("address", _address, "derive the site's addresses from the repository's")
    command("clean", _clean, "remove what was built, and nothing else")
    command("links", _links, "check every link, anchor and picture of _site")
    return parser


def _engine(added: argparse.ArgumentParser) -> None:
    added.add_argument("--out", type=Path, metavar="DIR", help="where the site goes (_site)")
    added.add_argument("--engine", choices=("auto", "quarto", "preview"), default="auto", help="what renders (auto)")


if __name__ == "__main__":
    sys.exit(main())
