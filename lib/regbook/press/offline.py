"""What makes the built book ask no other host for anything.

MathJax and the Jupyter widget manager come from the npm registry at build time and travel with the pages. They are kept
beside the build, so that only the first build needs a network. Without npm the book still builds; its pages then ask two
public hosts for these files, and the build says so.
"""

import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging

# an npm package, the files of it that travel, and the folder inside it that becomes the root
MATHJAX = ("mathjax@3.2.2", r"(tex-mml-chtml\.js|output/chtml/fonts/woff-v2/.*|input/tex/extensions/.*)", "es5/")
WIDGETS = ("@jupyter-widgets/html-manager@1.0.15", r"(embed\.js|.*\.woff2)", "dist/")

logger = logging.getLogger(__name__)


def serve_from_here(app: Sphinx, config: Config) -> None:
    """Point MathJax and the widget manager at copies in ``_static/vendor``."""
    cache = Path(app.srcdir) / "_build" / "vendored"
    try:
        vendor(*MATHJAX, target=cache / "vendor" / "mathjax")
        vendor(*WIDGETS, target=cache / "vendor" / "widgets")
    except (OSError, subprocess.CalledProcessError, tarfile.TarError) as error:
        reason = getattr(error, "stderr", "") or str(error)
        logger.info(  # not a warning: a strict build must still succeed
            "NOTE: mathematics will need a network on the pages of this build, because npm could not fetch it here: %s. "
            "Install Node.js with npm and build again to get pages that work offline.",
            reason.strip().splitlines()[-1] if reason.strip() else type(error).__name__,
            color="red",
        )
        return
    config.html_static_path.append(str(cache))
    config.mathjax_path = "vendor/mathjax/tex-mml-chtml.js"
    config.nb_ipywidgets_js = {"vendor/widgets/embed.js": {}}


def vendor(package: str, wanted: str, root: str, target: Path) -> None:
    """Put the files under ``root`` that match ``wanted`` into ``target``, unless they are there; all of them or none."""
    stamp = target / "package.json"
    if stamp.is_file() and json.loads(stamp.read_text())["from"] == package:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not installed")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        folder = Path(temporary)
        subprocess.run([npm, "pack", package], cwd=folder, check=True, capture_output=True, text=True)
        (archive,) = folder.glob("*.tgz")
        kept = folder / "kept"
        with tarfile.open(archive) as files:
            for member in files.getmembers():
                inside = member.name.removeprefix(f"package/{root}")
                if member.isfile() and re.fullmatch(wanted, inside):
                    path = kept / inside
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(files.extractfile(member).read())
        (kept / "package.json").write_text(json.dumps({"from": package}))
        shutil.rmtree(target, ignore_errors=True)
        kept.replace(target)


def drop_thebe(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Jupyter Book adds sphinx-thebe, whose script declares one constant twice (a page error); no page uses it."""
    context["script_files"] = [script for script in context.get("script_files", ()) if "thebe" not in _text(script)]
    context["css_files"] = [style for style in context.get("css_files", ()) if "thebe" not in _text(style)]


def _text(asset) -> str:
    return f"{getattr(asset, 'filename', asset)} {getattr(asset, 'attributes', {}).get('body', '')}".lower()
