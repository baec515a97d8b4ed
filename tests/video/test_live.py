"""What is filmed at this moment: recorded as it comes, whatever its codec and its times."""

import av
import numpy as np

from staf_cli import video
from tests.support.made_clips import make_clip


def record(path, sources):
    """Record files one after the other, as a sender that starts again would send them."""
    with video.recorded(path) as recording:
        for source in sources:
            with av.open(str(source)) as container:
                stream = container.streams.video[0]
                for packet in container.demux(stream):
                    if packet.size:
                        recording.add(stream, packet, stream.codec_context.decode(packet))
    return path


def frames_of(path):
    clip = video.probe(path)
    return list(video.frames(clip, video.inspect(clip)))


def test_packets_are_copied(tmp_path):
    source = make_clip(tmp_path / "clip.mp4", [0, 1, 3, 4, 8, 9], options={"bf": "2"})
    copied = record(tmp_path / "copy.mkv", [source])
    for one, other in zip(frames_of(source), frames_of(copied), strict=True):
        assert abs(one.time - other.time) < 0.002
        assert (one.image == other.image).all()


def test_raw_pictures_are_compressed(tmp_path):
    source = make_clip(tmp_path / "raw.avi", range(5), codec="rawvideo")
    copied = record(tmp_path / "copy.mkv", [source])
    for one, other in zip(frames_of(source), frames_of(copied), strict=True):
        assert abs(one.time - other.time) < 0.002
        assert np.abs(one.image.astype(int) - other.image).mean() < 4


def test_times_go_on_where_the_sender_starts_again(tmp_path):
    source = make_clip(tmp_path / "clip.mp4", range(10))
    times = [frame.time for frame in frames_of(record(tmp_path / "copy.mkv", [source, source]))]
    assert len(times) == 20
    assert np.allclose(np.diff(times), 1 / 25, atol=0.002)


def test_recording_begins_with_a_key_frame(tmp_path):
    source = make_clip(tmp_path / "clip.mp4", range(30), options={"g": "10", "bf": "0"})
    with video.recorded(tmp_path / "copy.mkv") as recording, av.open(str(source)) as container:
        stream = container.streams.video[0]
        for number, packet in enumerate(container.demux(stream)):
            if packet.size and number > 3:
                recording.add(stream, packet, ())
    assert len(frames_of(tmp_path / "copy.mkv")) == 20


def test_a_recording_is_readable_before_it_is_closed(tmp_path):
    source = make_clip(tmp_path / "clip.mp4", range(100), options={"g": "25"})
    with video.recorded(tmp_path / "copy.mkv") as recording, av.open(str(source)) as container:
        stream = container.streams.video[0]
        for packet in container.demux(stream):
            if packet.size:
                recording.add(stream, packet, ())
        (tmp_path / "killed.mkv").write_bytes((tmp_path / "copy.mkv").read_bytes())
    assert len(frames_of(tmp_path / "killed.mkv")) >= 50  # of 4 s, all but the last


def test_names_have_no_password():
    assert video.source_name("rtsp://anna:secret@10.0.0.1:554/a?b=1") == "rtsp://10.0.0.1:554/a?b=1"
    assert video.source_name("-") == "standard input"
    assert video.source_name("0") == "0"
