"""run.json as frozen records: what was computed from what, with what, and how long it took.

The file may come from anybody: `from_json` checks every value, and raises ValueError for what
staf does not write.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import degrees, isfinite
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial.transform import Rotation

from staf_cli.core.camera_motion import CameraMotion
from staf_cli.core.numbered import unpack
from staf_cli.core.records import Track
from staf_cli.video import Damage

if TYPE_CHECKING:  # torch takes seconds: what reads no smoothing does without it
    from staf_cli.fitting.smoothing import Effect

LONGEST_TEXT = 4096  # characters; as long as a path can be on Linux
LARGEST_COUNT = 2**53  # that JSON holds exactly

Json = dict[str, Any]


def _text(values: Mapping[str, Any], key: str) -> str:
    value: str = _value(values, key, str)
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"{key} has {len(value)} characters")
    return value


def _count(values: Mapping[str, Any], key: str) -> int:
    value: int = _value(values, key, int)
    if isinstance(value, bool) or not 0 <= value < LARGEST_COUNT:
        raise ValueError(f"{key} is {value!r:.60}")
    return value


def _number(values: Mapping[str, Any], key: str) -> float:
    value = _value(values, key, int | float)
    if isinstance(value, bool) or not isfinite(value):
        raise ValueError(f"{key} is {value!r:.60}")
    return float(value)


def _time(values: Mapping[str, Any], key: str) -> float:
    if (value := _number(values, key)) < 0:
        raise ValueError(f"{key} is {value!r}")
    return value


def _lines(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    lines = _value(values, key, list)
    return tuple(_text({key: line}, key) for line in lines)


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: _text(values, key) for key in values}


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {key: _number(values, key) for key in values}


def _value(values: Mapping[str, Any], key: str, kind: Any) -> Any:
    if not isinstance(values, Mapping) or not isinstance(values.get(key), kind):
        raise ValueError(f"{key} is missing or is no {getattr(kind, '__name__', kind)}")
    return values[key]


@dataclass(frozen=True)
class VideoRecord:
    """The video, and the part of it that was computed."""

    path: str  # absolute
    sha256: str  # of the content
    width: int  # px
    height: int  # px
    fps: float
    start: float  # s
    end: float | None  # s; None: to the end of the video
    remarks: tuple[str, ...] = ()  # where it was not read just as the file has it

    @classmethod
    def from_json(cls, values: Json) -> "VideoRecord":
        """Check and convert "video" of run.json.

        Args:
            values: the object.

        Returns:
            The record.

        Raises:
            ValueError: staf does not write such values.
        """
        return cls(
            path=_text(values, "path"),
            sha256=_text(values, "sha256"),
            width=_count(values, "width"),
            height=_count(values, "height"),
            fps=_number(values, "fps"),
            start=_time(values, "start"),
            end=None if values.get("end") is None else _time(values, "end"),
            remarks=_lines(values, "remarks") if "remarks" in values else (),
        )


@dataclass(frozen=True)
class Presence:
    """When a person is in a clip."""

    id: int
    frames: int
    first: int  # index of a frame
    last: int
    interpolated: int  # frames

    @classmethod
    def of(cls, track: Track) -> "Presence":
        """Describe a track.

        Args:
            track: the person's.

        Returns:
            The record.
        """
        first, last = int(track.frame[0]), int(track.frame[-1])
        return cls(track.id, len(track.frame), first, last, int(track.interpolated.sum()))

    def to_json(self) -> Json:
        """Return plain values; the id's key is "person"."""
        values = asdict(self)
        return {"person": values.pop("id"), **values}

    @classmethod
    def from_json(cls, values: Json) -> "Presence":
        """Check and convert one of "people" of run.json.

        Args:
            values: the object.

        Returns:
            The record.

        Raises:
            ValueError: staf does not write such values.
        """
        counts = ("person", "frames", "first", "last", "interpolated")
        return cls(*(_count(values, key) for key in counts))


@dataclass(frozen=True)
class DetectorRecord:
    """The detector's file."""

    file: str
    sha256: str

    @classmethod
    def from_json(cls, values: Json) -> "DetectorRecord":
        """Check and convert "detector" of run.json.

        Args:
            values: the object.

        Returns:
            The record.

        Raises:
            ValueError: staf does not write such values.
        """
        return cls(_text(values, "file"), _text(values, "sha256"))


@dataclass(frozen=True)
class TrackFacts:
    """What is kept of the pass that finds people."""

    first: int  # index of the clip's first frame
    frames: int  # of the clip
    of: str  # key of the pass "check" that these frames are of
    instead_of: str | None = None  # key of the tracks that edited ones replace
    left_out: int = 0  # people whom the options did not want

    @property
    def indices(self) -> range:
        """The indices of the clip's frames."""
        return range(self.first, self.first + self.frames)

    def to_json(self) -> Json:
        """Return plain values."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        if not self.left_out:
            del values["left_out"]
        return values


@dataclass(frozen=True)
class PeopleFacts:
    """What is kept of a pass that makes a file for each person: landmarks, recover."""

    keys: Mapping[int, str]  # by person: a hash of all that the file depends on
    smoothing: "Effect | None" = None

    def to_json(self) -> Json:
        """Return plain values."""
        values: Json = {str(person): key for person, key in self.keys.items()}
        if self.smoothing is not None:
            values["smoothing"] = asdict(self.smoothing)
        return values


@dataclass(frozen=True)
class CameraFacts:
    """What is kept of the pass that finds out how the camera moves."""

    moving: bool
    travels: bool  # in any shot
    turned: float  # rad, the farthest from the first frame of a shot
    frames: int
    unknown: int  # frames in which it could not be measured
    focal_length: float | None = None  # px, where the turns tell it

    @classmethod
    def of(cls, motion: CameraMotion) -> "CameraFacts":
        """Describe a camera's motion.

        Args:
            motion: the camera's.

        Returns:
            The record.
        """
        turned = float(Rotation.from_matrix(motion.rotation).magnitude().max())
        unknown = int(np.count_nonzero(~motion.known))
        travels, frames = bool(motion.travels.any()), len(motion.frame)
        focal = None if np.isnan(motion.focal_length) else round(motion.focal_length, 2)
        return cls(motion.moving, travels, round(turned, 4), frames, unknown, focal)

    @property
    def words(self) -> str:
        """How the camera moves, for the summary."""
        if self.unknown == self.frames:
            return "not known, too little is seen behind the people; taken as at rest"
        words = f"moves, turns by up to {degrees(self.turned):.0f} degrees"
        words = words + " and travels" * self.travels if self.moving else "at rest"
        if self.focal_length is not None:
            words += f", with a focal length of {self.focal_length:.0f} px"
        if self.unknown:
            words += f"; not measured in {self.unknown} of {self.frames} frames"
        return words

    @classmethod
    def from_json(cls, values: Json) -> "CameraFacts":
        """Check and convert the facts of the pass "camera".

        Args:
            values: the object.

        Returns:
            The record.

        Raises:
            ValueError: staf does not write such values.
        """
        moving, travels = (_value(values, name, bool) for name in ("moving", "travels"))
        frames, unknown = _count(values, "frames"), _count(values, "unknown")
        focal = None if values.get("focal_length") is None else _time(values, "focal_length")
        return cls(moving, travels, _time(values, "turned"), frames, unknown, focal)


Facts = Damage | TrackFacts | PeopleFacts | CameraFacts


@dataclass(frozen=True)
class PassRecord:
    """A pass that is done: what it depended on, what it wrote, and what is worth keeping."""

    key: str  # a hash of everything that the pass depends on; "": of a pass that is not done
    files: Mapping[str, str] = field(default_factory=dict)  # `numbered.pack`: `digest`
    facts: Facts | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)  # by part of the pass

    def to_json(self) -> Json:
        """Return plain values."""
        if isinstance(self.facts, TrackFacts | PeopleFacts):
            facts = self.facts.to_json()
        else:
            facts = {} if self.facts is None else asdict(self.facts)
        return {
            "key": self.key,
            "files": dict(self.files),
            "facts": facts,
            "seconds": dict(self.seconds),
        }

    @classmethod
    def from_json(cls, name: str, values: Json) -> "PassRecord":
        """Check and convert one of "passes" of run.json.

        Args:
            name: the pass, such as "track"; it decides what the facts are.
            values: the object.

        Returns:
            The record.

        Raises:
            ValueError: staf does not write such values.
        """
        files = _texts(_value(values, "files", dict))
        for file in map(PurePosixPath, files):
            if file.is_absolute() or ".." in file.parts or not file.parts:
                raise ValueError(f"{file}: is not inside the folder")
        for _ in unpack(files):  # raises where they are too many
            pass
        return cls(
            key=_text(values, "key"),
            files=files,
            facts=_facts(name, _value(values, "facts", dict)),
            seconds=_numbers(_value(values, "seconds", dict)),
        )


def _facts(name: str, values: Json) -> Facts | None:
    if name == "check":
        return _damage(values)
    if name == "track":
        instead_of = None if values.get("instead_of") is None else _text(values, "instead_of")
        first, frames = _count(values, "first"), _count(values, "frames")
        left_out = _count(values, "left_out") if "left_out" in values else 0
        return TrackFacts(first, frames, _text(values, "of"), instead_of, left_out)
    if name == "camera":
        return CameraFacts.from_json(values)
    if name in ("landmarks", "recover"):
        keys = {int(key): _text(values, key) for key in values if key != "smoothing"}
        return PeopleFacts(keys, _smoothing(values.get("smoothing")))
    return None


def _damage(values: Json) -> Damage:
    interlaced = _count(values, "interlaced") if "interlaced" in values else 0
    pictures = _lines(values, "pictures") if "pictures" in values else ()
    return Damage(_count(values, "packets"), _count(values, "missing"), interlaced, pictures)


def _smoothing(values: Any) -> "Effect | None":
    if values is None:
        return None
    from staf_cli.fitting.smoothing import Effect

    frames, *means = (one.name for one in fields(Effect))
    return Effect(_count(values, frames), *(_number(values, key) for key in means))


def _precision(values: Json) -> str:
    """Read the number format; version 0.1.0 wrote whether it was float16."""
    if "precision" in values:
        return _text(values, "precision")
    return "float16" if _value(values, "half", bool) else "float32"


def passes_from_json(values: Any) -> dict[str, PassRecord]:
    """Check and convert "passes" of run.json.

    Args:
        values: whatever the file holds there.

    Returns:
        The passes by name.

    Raises:
        ValueError: staf does not write such values.
    """
    if not isinstance(values, dict):
        raise ValueError("passes is no object")
    return {name: PassRecord.from_json(name, one) for name, one in values.items()}


@dataclass(frozen=True)
class RunRecord:
    """Everything that run.json holds."""

    staf: str  # version
    video: VideoRecord
    frames: int
    damage: Damage
    people: tuple[Presence, ...]
    options: Mapping[str, Any]  # `Options.to_json` of the pipeline; not checked here
    weights: str  # name and hash of the checkpoint
    body: str  # name and hash of the body
    body_file: str  # the body's name, or the absolute path of its file
    detector: DetectorRecord
    device: str
    precision: str  # of convolutions: float32, float16 or bfloat16
    seconds: Mapping[str, float] = field(default_factory=dict)  # by part of every pass
    versions: Mapping[str, str] = field(default_factory=dict)  # of Python and of libraries
    smoothing: "Effect | None" = None
    passes: Mapping[str, PassRecord] = field(default_factory=dict)

    @property
    def clothes(self) -> bool:
        """Whether the overlay shows people in clothes; exports and the report do the same."""
        look = self.options.get("look")
        return not isinstance(look, Mapping) or look.get("clothes") is not False

    def to_json(self) -> Json:
        """Return plain values, in the order in which run.json has them."""
        values: Json = {one.name: getattr(self, one.name) for one in fields(self)}
        values |= {
            "video": asdict(self.video),
            "damage": asdict(self.damage),
            "people": [one.to_json() for one in self.people],
            "options": dict(self.options),
            "detector": asdict(self.detector),
            "seconds": dict(self.seconds),
            "versions": dict(self.versions),
            "passes": {name: one.to_json() for name, one in self.passes.items()},
        }
        if self.smoothing is None:
            del values["smoothing"]
        else:
            values["smoothing"] = asdict(self.smoothing)
        return values

    @classmethod
    def from_json(cls, values: Any) -> "RunRecord":
        """Check and convert what run.json holds.

        Args:
            values: whatever the file holds.

        Returns:
            The record.

        Raises:
            ValueError: staf does not write such values.
        """
        if not isinstance(values, dict):
            raise ValueError("run.json is no object")
        return cls(
            staf=_text(values, "staf"),
            video=VideoRecord.from_json(_value(values, "video", dict)),
            frames=_count(values, "frames"),
            damage=_damage(_value(values, "damage", dict)),
            people=tuple(Presence.from_json(one) for one in _value(values, "people", list)),
            options=_value(values, "options", dict),
            weights=_text(values, "weights"),
            body=_text(values, "body"),
            body_file=_text(values, "body_file"),
            detector=DetectorRecord.from_json(_value(values, "detector", dict)),
            device=_text(values, "device"),
            precision=_precision(values),
            seconds=_numbers(values.get("seconds", {})),
            versions=_texts(values.get("versions", {})),
            smoothing=_smoothing(values.get("smoothing")),
            passes=passes_from_json(values.get("passes")),
        )
