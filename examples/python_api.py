# %% [markdown]
# # staf from Python
#
# From a video to arrays, meshes, a file for a 3D program and a picture. Open this file in an
# editor that runs cells one by one (VS Code, PyCharm, Spyder; `jupytext` makes a notebook of it),
# or run all of it from the repository's folder: `python examples/python_api.py`.
#
# You need to know numpy. A **body model** (in SMPL's format) is a function from a few numbers to a
# mesh of thousands of vertices:
#
# - **pose**: 24 joints, each with a rotation vector: its direction is the axis, its length the
#   angle in radians. That is 24 x 3 = 72 numbers per frame. The first three turn the whole body.
# - **betas**: 10 numbers for the shape: tall or short, broad or slim. 0 is the average.
# - **trans**: where the body is, in metres from the camera: x right, y **down**, z away from it.

# %%
from pathlib import Path

import numpy as np
import trimesh
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

import staf_cli as staf

CLIP = Path("examples/held_out/gesturing.mp4")  # a person who gestures: 2 s, 640 x 480
OUT = Path("out/python_api")

# %% [markdown]
# ## Recover all people in a video
#
# This finds people, follows them and recovers their bodies, as `staf run` does, and writes the
# same files. If you run it again, what is up to date is not computed again. `staf.Options` has all
# options, those of the recovery in `staf.Options(recovery=staf.RecoveryOptions(...))`. Here it
# selects a third of a second, so that the example is quick.

# %%
options = staf.Options(span=staf.Span(0.0, 0.3))
tools = staf.prepare(options)  # the networks, loaded once for any number of videos
result = staf.run(CLIP, OUT, options, tools)

print(f"{len(result.people)} person in {len(result.frames)} frames; files in {result.folder}")

# %% [markdown]
# ## The arrays
#
# `motion` holds what was recovered, one row for each of the F frames that the person is in.
# `motion.frame` lists these frames of the video, because a person may come late or leave early.
# `motion.id` is the person's number, and `result.record` holds what `run.json` does.

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
# Meshes are large, so they are not stored: `vertices` computes one, for a frame given by its index
# in the video. The triangles are the same in all frames.

# %%
frame = int(motion.frame[len(motion.frame) // 2])
vertices = human.vertices(frame)  # (V, 3) m, camera frame
print(f"frame {frame}: vertices {vertices.shape}, triangles {human.faces.shape}")

# %% [markdown]
# Write it to a file for 3D programs such as Blender. Their y is up and their camera looks along -z,
# so y and z change sign. (`result.export("glb", OUT)` writes the whole motion of all people, with
# skeletons.)

# %%
obj = OUT / f"frame_{frame}.obj"
trimesh.Trimesh(vertices * [1, -1, -1], human.faces, process=False).export(obj)
print(obj)

# %% [markdown]
# ## A picture
#
# `pixels` projects points of the scene into the image, and `read_frames` yields exactly the frames
# that were used. Triangles are painted from far to near; the more a triangle is turned towards the
# camera, the brighter it is.

# %%
image = next(f.image for f in staf.read_frames(CLIP, options.span) if f.index == frame)
corners = vertices[human.faces]  # (T, 3, 3) m: triangle, corner, axis
normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
facing = -(normals * corners[:, 0]).sum(1)  # above 0: its outside faces the camera
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
# If you already know where people are, `recover` only recovers bodies. Frames are an iterable of
# uint8 arrays (height, width, 3) in RGB, from any source; they need not fit into memory. Boxes are
# (x1, y1, x2, y2) in pixels. Here both are the ones from above.

# %%
images = (f.image for f in staf.read_frames(CLIP, options.span))
boxes = staf.Boxes(human.track.box, frame=human.track.frame, name="Alex")
again = staf.recover(
    images, [boxes], fps=30, options=staf.RecoveryOptions(focal=motion.focal_length), tools=tools
)
apart = np.linalg.norm(again.people[0].motion.joints3d - motion.joints3d, axis=-1)
print(f"without keypoints to refine with, joints differ by {100 * apart.mean():.0f} cm")

saved = again.save(OUT / "own_boxes")
print(saved.folder, [human.track.name for human in staf.load(saved.folder).people])

# %% [markdown]
# ## When something goes wrong
#
# Every error is a `staf.StafError` with one line that explains what to do.

# %%
try:
    staf.run("no_such_video.mp4", OUT, options, tools)
except staf.StafError as error:
    print(f"{type(error).__name__}: {error}")
