"""Run records as `staf run` writes them, of a clip that does not exist."""

from dataclasses import replace

from staf_cli.pipeline.options import Options
from staf_cli.result.run_record import DetectorRecord, PassRecord, RunRecord, VideoRecord
from staf_cli.video import Damage


def make_record(path="clip.mp4", start=0.0, width=320, height=240, fps=30.0, **changes):
    record = RunRecord(
        staf="1",
        video=VideoRecord(path, "0", width, height, fps, start, None),
        frames=20,
        damage=Damage(2, 0),
        people=(),
        options=Options().to_json(),
        weights="none",
        body="open-body 1",
        body_file="open-body",
        detector=DetectorRecord("detector.pt", "0"),
        device="cpu",
        precision="float32",
        passes={"show": PassRecord("not for people")},
    )
    return replace(record, **changes)
