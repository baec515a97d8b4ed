"""three.js, which draws the 3D view: read from the installed trimesh, not copied here.

trimesh's notebook viewer is one page with three.js, its TrackballControls and its GLTFLoader in
one script, followed by the viewer's own few lines, which are cut off.
"""

import io
import re
import zipfile
from importlib import resources

from staf_cli.core.errors import MissingTool

ARCHIVE = "templates/viewer.zip"
PAGE = "viewer.html.template"
LOADER = "THREE.GLTFLoader=GLTFLoader;})();"  # the last line of the libraries
PARTS = ("THREE.TrackballControls=", "SkinnedMesh", "AnimationMixer", LOADER)


def library() -> str:
    """Read the code that defines a global THREE with TrackballControls and GLTFLoader.

    Returns:
        JavaScript.

    Raises:
        MissingTool: the installed trimesh no longer has them.
    """
    archive = resources.files("trimesh.resources").joinpath(ARCHIVE).read_bytes()
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        page = opened.read(PAGE).decode("utf-8")
    script = re.search(r"<script>(.*)</script>", page, re.DOTALL)
    code = script.group(1) if script else ""
    if any(name not in code for name in PARTS):
        raise MissingTool(
            "the installed trimesh has no three.js for the report; install the version of trimesh "
            "that constraints.txt names"
        )
    return code[: code.index(LOADER) + len(LOADER)]
