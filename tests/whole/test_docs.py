"""The documentation agrees with the program: keys, commands, options, links and lines of errors."""

import ast
import csv
import json
import re
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import click
import numpy as np
import PIL.Image
import pytest

from staf_cli.batch.ledger import CSV, JSON, Row, open_ledger
from staf_cli.cli import app
from staf_cli.core.records import COCO_KEYPOINTS, Clip
from staf_cli.export import FORMATS, Scene, amass, openpose
from staf_cli.export.motion import JOINT_NAMES
from tests.support.made_clips import make_clip
from tests.support.made_people import make_person, make_track, open_body
from tests.support.paths import ROOT
from tests.support.staf_child import Child
from tools import design_tree

FORMATS_PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
TROUBLES = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "weights").glob("*.md")),
    ROOT / "examples" / "README.md",
    ROOT / "staf_cli" / "training" / "README.md",
]
FRAMES = 30
WHOLE = {"options", "versions"}  # of run.json: named, but not what is in them
OF_PIP = {"--constraint", "--no-deps"}
CODE = re.compile(r"`([^`]+)`")


def name_of(page):
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A folder that `staf run` has just written, with every export that needs no keypoints."""
    folder = tmp_path_factory.mktemp("docs")
    clip = make_clip(folder / "clip.mp4", range(FRAMES))
    child = Child()
    try:
        exports = ",".join(sorted(FORMATS.keys() - {"openpose"}))
        options = ["-o", folder, "--export", exports, "--smooth", 0.07]
        outcome = child.run("run", clip, *options, limit=120)
    finally:
        child.close()
    assert outcome.code == 0, outcome.err
    return folder / "clip"


@pytest.fixture(scope="module")
def scene():
    """A person with keypoints."""
    track, body = make_track(1, 12), open_body()
    clip = Clip(Path("clip.mp4"), 640, 480, 29.97, Fraction(1, 30000), 20, False)
    return Scene([track], [make_person(track, body, clip)], body, range(20))


# --- docs/formats.md


def section(title):
    """What is under a heading, up to the next one."""
    marks, _, rest = FORMATS_PAGE.partition(f" {title}\n")
    assert rest, f"docs/formats.md has no section {title}"
    assert marks.endswith("#")
    return re.split(r"\n#+ ", rest)[0]


def rows(title):
    """The cells of a section's table, without the heading; its first cell as a list of names."""
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    return [[CODE.findall(cell[0]), *cell[1:]] for cell in cells if CODE.search(cell[0])]


def names(title):
    """The names in a section's table, each once."""
    found = [name for row in rows(title) for name in row[0]]
    assert len(found) == len(set(found))
    return found


def check_arrays(title, arrays, frames):
    """Names, shapes and types of a table and of an npz are the same."""
    assert sorted(names(title)) == sorted(arrays)
    for keys, shapes, dtype, *_ in rows(title):
        for key in keys:
            array = arrays[key]
            shape = "(" + ", ".join(map(str, array.shape)) + ("," * (array.ndim == 1)) + ")"
            assert shape in shapes.replace("F", str(frames)).split(" or "), key
            assert (np.dtype(dtype) if dtype != "text" else array.dtype) == array.dtype, key
            assert (array.dtype.kind == "U") == (dtype == "text"), key


def test_every_array_of_a_person_is_described(result):
    with np.load(result / "person_1.npz") as arrays:
        fitted = {"joint_sigma": np.zeros((FRAMES, 24), np.float32)}  # nobody is fitted here
        check_arrays(r"person_\<id\>.npz", fitted | dict(arrays), FRAMES)


@pytest.mark.parametrize("model", amass.POSE_LENGTHS)
def test_every_array_of_an_amass_file_is_described(result, model):
    with np.load(result / "amass" / f"person_1_{model}.npz") as arrays:
        check_arrays("amass", arrays, FRAMES)


def header(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return next(csv.reader(stream))


def test_every_column_of_the_tracks_is_described(result):
    described = []
    for name in names("tracks.csv"):
        keypoints = COCO_KEYPOINTS if name.startswith("KEYPOINT") else [""]
        described += [name.replace("KEYPOINT", keypoint) for keypoint in keypoints]
    assert sorted(described) == sorted(header(result / "tracks.csv"))
    keypoints = section("tracks.csv").partition("The keypoints are COCO's: ")[2]
    assert CODE.findall(keypoints) == list(COCO_KEYPOINTS)


def test_every_column_of_the_joints_is_described(result):
    assert names("csv") == header(result / "joints.csv")
    joints = section("Frames and units").partition("in SMPL's order: ")[2].partition("Left is")[0]
    assert CODE.findall(joints) == list(JOINT_NAMES)


def paths_in(value, above=""):
    """All keys of a JSON document, those of inner ones behind a dot."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return paths_in(value[0], above + "[]")
    if isinstance(value, dict) and above not in WHOLE | {"seconds"}:
        if above == "passes":
            return {path for one in value.values() for path in paths_in(one, "passes.PASS")}
        dot = above and f"{above}."
        if above.startswith("passes.PASS"):
            return {dot + key for key in value}
        return {path for key, inner in value.items() for path in paths_in(inner, dot + key)}
    return {above}


def test_every_key_of_run_json_is_described(result):
    run = json.loads((result / "run.json").read_text())
    assert run["smoothing"]["frames"] == FRAMES
    assert paths_in(run) == set(names("run.json"))


def test_every_column_of_the_summary_is_described(tmp_path):
    with open_ledger(tmp_path) as book:
        book.add(Row("/clips/a.mp4", "a", "done"))
    described = names("summary.csv and summary.json")
    assert described == [field.name for field in fields(Row)]
    summary = json.loads((tmp_path / JSON).read_text())
    assert summary.keys() == {"staf", "clips"}
    assert list(summary["clips"][0]) == described
    assert header(tmp_path / CSV) == described[:-2]  # without times and identity


def test_every_key_of_openpose_is_described(scene, tmp_path):
    written = list(openpose.write(tmp_path, scene))
    assert "openpose/frame_<index>_keypoints.json" in section("Exports")
    assert written[5] == tmp_path / "openpose" / "frame_000000000005_keypoints.json"
    assert paths_in(json.loads(written[5].read_text())) == set(names("openpose"))


def test_every_file_and_format_is_described(result):
    listed = set(" ".join(names("A result folder")).split())
    for path in result.iterdir():
        name = f"{path.name}/" if path.is_dir() else path.name
        assert re.sub(r"person_\d+", "person_<id>", name) in listed
    exports = [name for row in rows("Exports") for name in row[0]]
    assert sorted(exports) == sorted(FORMATS)


# --- commands, options, links


def commands(text):
    """The command lines on a page, one list of words each."""
    blocks = re.findall(r"^```(?:sh)?\n(.*?)^```", text, re.S | re.M)
    blocks += re.findall(r"((?:^ {4}.*\n)+)", text, re.M)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for code in lines + CODE.findall(re.sub(r"```.*?```", "", text, flags=re.S)):
        words = [
            word.removeprefix(".venv/bin/")
            for word in code.replace("\\|", "|").partition(" # ")[0].split()
        ]
        if words[:1] == ["staf"]:
            yield words[1:]
        elif words and re.match(r"--[a-z]", words[0]):
            yield words


def command_of(words):
    """The click commands that words begin with (`a|b` names two), and the words behind."""
    found: list[click.Command] = [app.staf]
    while words and isinstance(group := found[0], click.Group) and not words[0].startswith("-"):
        names = words[0].split("|")
        assert group.commands.keys() >= set(names), f"staf {' '.join(words)}: no such command"
        below = [group.commands[name] for name in names]
        found, words = below, words[1:]
    return found, words


def options_of(command):
    spelled = {"--help", "-h", "--version"}
    for option in command.params:
        spelled |= {*option.opts, *option.secondary_opts}
    return spelled


def everything(command):
    yield command
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from everything(below)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_options_exist(page):
    anywhere = {option for command in everything(app.staf) for option in options_of(command)}
    for words in commands(page.read_text(encoding="utf-8")):
        found, rest = command_of(words)
        known = anywhere if found == [app.staf] else set.union(*map(options_of, found))
        for word in rest:
            for option in re.findall(r"^--?[a-z][a-z-]*", word):
                assert option in known | OF_PIP, f"{' '.join(words)}: no option {option}"


def test_the_check_of_commands_can_fail():
    assert list(commands("Try `staf run x --fast` or `--slow`, not `git --all`.")) == [
        ["run", "x", "--fast"],
        ["--slow"],
    ]
    assert "--fast" not in options_of(app.staf.commands["run"])
    with pytest.raises(AssertionError, match="no such command"):
        command_of(["walk", "x"])


def slug(heading):
    """A heading's anchor, as GitHub makes it."""
    plain = re.sub(r"[`\\]", "", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), f"{target}: nothing there"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.M)
            assert anchor in map(slug, headings), f"{target}: no such heading"


# --- README.md


def test_the_readme_begins_with_what_comes_out():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert 0 < text.index("docs/demo.webp") < text.index("`overlay.mp4`") < text.index("```")
    for system in ("On Windows:", "On macOS and Linux:"):
        lines = text.partition(system)[2].partition("```sh\n")[2].partition("```")[0]
        assert "-m venv .venv\n" in lines and "activate\n" in lines
        assert 'pip install --constraint constraints.txt ".[openvino]"\n' in lines
    path = ROOT / "docs" / "demo.webp"
    assert path.stat().st_size < 1.5e6
    with PIL.Image.open(path) as picture:
        assert picture.n_frames > 20  # type: ignore[attr-defined]


# --- docs/troubleshooting.md


def said_by_the_code():
    """All text in the code; what is put into it becomes an ellipsis."""
    for path in (ROOT / "staf_cli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                parts = (str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values)
                yield "".join(parts)


def test_every_line_that_is_explained_is_one_that_staf_prints():
    texts = list(said_by_the_code())
    lines = [line for line in TROUBLES.splitlines() if line.startswith("| `")]
    quoted = [code for line in lines for code in CODE.findall(line.split(" | ")[0])]
    assert len(quoted) > 100
    for code in quoted:
        assert any(code in text for text in texts), f"staf never prints {code!r}"


# --- docs/design.md


def test_the_tree_of_the_design_is_that_of_the_package():
    _, drawn, _ = design_tree.parts((ROOT / "docs" / "design.md").read_text(encoding="utf-8"))
    assert drawn == design_tree.tree(), "run: python -m tools.design_tree"
    named = set(design_tree.layers())
    there = {path.stem for path in (ROOT / "staf_cli").iterdir() if not path.name.startswith("__")}
    assert there - {"py"} <= named | {"data"}


def test_files_named_in_the_design_exist():
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`([a-z_]+/[a-z_]+\.py)`", text))
    assert len(paths) > 15
    for path in paths:
        assert (ROOT / "staf_cli" / path).is_file(), path


def test_few_modules_are_at_the_package_root():
    assert len(list((ROOT / "staf_cli").glob("*.py"))) <= 6


def test_start_frames_for_blender_keep_people_in_time():
    """Blender's bvh importer takes a start frame below 1 for 1."""
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    found = re.search(r"\*Start Frame\* to the person's `first` \+ (\d+)", text)
    assert found is not None
    late = {max(1, first + int(found[1])) - first for first in (0, 1, 37)}
    assert len(late) == 1
