# %% [markdown]
# # staf from Python
#
# From a video to meshes, arrays, a file for a 3D program and a picture. Open this file in an
# editor that runs cells one by one (VS Code, PyCharm, Spyder; `jupytext` makes a notebook of it),
# or run all of it from the repository's folder: `python examples/python_api.py`.
#
# You need to know numpy. Of bodies, this much: a **body model** (SMPL's format) is a function.
# Numbers go in, a skin of thousands of points comes out:
#
# - **pose**: 24 joints, each turned by a rotation vector: its direction is the axis, its length
#   the angle in radians. 24 x 3 = 72 numbers a frame. The first three turn the whole body.
# - **betas**: 10 numbers for the shape: tall or short, broad or slim. 0 is the average.
# - **trans**: where the body is, in metres from the camera: x right, y **down**, z away from it.

# %%
from pathlib import Path

import numpy as np
import trimesh
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

import staf_cli as staf

CLIP = Path("examples/held_out/gesturing.mp4")  # somebody gestures: 2 s, 640 x 480
OUT = Path("out/python_api")

# %% [markdown]
# ## Recover everybody in a video
#
# This finds people, follows them and recovers their bodies, as `staf run` does, and leaves the
# same files. Run it again, and what is there already is not computed again. Everything that can
# be chosen is in `staf.Options`; here it is a third of a second, so that the example is quick.

# %%
options = staf.Options(span=staf.Span(0.0, 0.3))
tools = staf.prepare(options)  # the networks, loaded once for any number of videos
result = staf.run(CLIP, OUT, options, tools)

print(f"{len(result.people)} person in {len(result.frames)} frames; files in {result.folder}")

# %% [markdown]
# ## The arrays
#
# `motion` holds what was recovered, a row for each of the F frames that the person is in.
# `motion.frame` says which frames of the video these are: somebody may come late, or leave.

# %%
human = result.people[0]
motion = human.motion
for name in ("frame", "time", "poses", "betas", "trans", "joints3d", "joints2d"):
    print(f"{name:10}", getattr(motion, name).shape)

WRIST = 21  # the right one, in SMPL's order of 24 joints
path = motion.joints3d[:, WRIST]  # (F, 3) m
way = np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
print(f"the right wrist went {100 * way:.0f} cm in {motion.time[-1] - motion.time[0]:.2f} s")
print(f"the person is {motion.trans[:, 2].mean():.1f} m away, if the focal length is right")

# %% [markdown]
# ## A mesh
#
# Meshes are large, so they are not stored: one is computed when it is asked for, by the frame's
# index in the video. The triangles are the same in all frames.

# %%
frame = int(motion.frame[len(motion.frame) // 2])
vertices = human.vertices(frame)  # (V, 3) m, where the camera sees them
print(f"frame {frame}: vertices {vertices.shape}, triangles {human.faces.shape}")

# %% [markdown]
# As a file for Blender and the like. They have y up and look along -z: half a turn about x.
# (`result.export("glb", OUT)` writes everybody's whole motion, with a skeleton.)

# %%
obj = OUT / f"frame_{frame}.obj"
trimesh.Trimesh(vertices * [1, -1, -1], human.faces, process=False).export(obj)
print(obj)

# %% [markdown]
# ## A picture
#
# `pixels` says where points of the scene are seen in the image, and `read_frames` gives the very
# frames that were used. Triangles are painted from far to near, the more a triangle is turned
# towards the camera, the brighter.

# %%
image = next(f.image for f in staf.read_frames(CLIP, options.span) if f.index == frame)
corners = vertices[human.faces]  # (T, 3, 3) m: triangle, corner, axis
normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
facing = -(normals * corners[:, 0]).sum(1)  # above 0: its outside is towards the camera
facing /= np.linalg.norm(normals, axis=1) * np.linalg.norm(corners[:, 0], axis=1) + 1e-12
seen = np.flatnonzero(facing > 0)
order = seen[np.argsort(-corners[seen, :, 2].mean(1))]
shade = (0.25 + 0.7 * facing[order])[:, None] * [0.55, 0.75, 1.0]

height, width = image.shape[:2]
figure = Figure(figsize=(2 * width / 100, height / 100), dpi=100)
for side, axes in enumerate(figure.subplots(1, 2)):
    # Pixels are counted from the image's corner: the first one's centre is (0.5, 0.5).
    axes.imshow(image, extent=(0, width, height, 0))
    if side == 1:
        mesh = PolyCollection(human.pixels(corners)[order], facecolors=shade, antialiased=False)
        axes.add_collection(mesh)
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
figure.subplots_adjust(0, 0, 1, 1, 0, 0)
picture = OUT / f"frame_{frame}.png"
figure.savefig(picture)
print(picture)

# %% [markdown]
# ## Your own boxes and frames
#
# If you know already where people are, only bodies are recovered. Frames may come from anywhere:
# uint8 arrays (height, width, 3) in RGB, one after the other, so that they need not fit into
# memory. Boxes are (x1, y1, x2, y2) in pixels. Here both are those of above.

# %%
images = (f.image for f in staf.read_frames(CLIP, options.span))
boxes = staf.Boxes(human.track.box, frame=human.track.frame, name="Alex")
again = staf.recover(
    images, [boxes], fps=30, options=staf.RecoveryOptions(focal=motion.focal_length), tools=tools
)
apart = np.linalg.norm(again.people[0].motion.joints3d - motion.joints3d, axis=-1)
print(f"without keypoints to refine by, joints lie {100 * apart.mean():.0f} cm elsewhere")

saved = again.save(OUT / "own_boxes")
print(saved.folder, [human.track.name for human in staf.load(saved.folder).people])

# %% [markdown]
# ## When something goes wrong
#
# Every error is a `staf.StafError` with one line that says what to do.

# %%
try:
    staf.run("no_such_video.mp4", OUT, options, tools)
except staf.StafError as error:
    print(f"{type(error).__name__}: {error}")
