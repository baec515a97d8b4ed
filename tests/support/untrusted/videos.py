"""Videos and playlists: staf run FILE."""

import os
import struct
from pathlib import Path

from tests.support import made_clips
from tests.support.untrusted.attacks import ATTACKS, Arguments, Attack, attack


def secret(folder: Path) -> Path:
    """A video that the attack is after."""
    return made_clips.make_clip(folder / "secret.mp4", range(3))


def played(folder: Path, name: str, text: str | bytes) -> Arguments:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    secret(folder)
    return ["run", path, "-o", folder / "out"]


PLAYLISTS = {
    "list.ffconcat": "ffconcat version 1.0\nfile secret.mp4\n",
    "list.mp4": "ffconcat version 1.0\nfile 'secret.mp4'\nduration 9\n",
    "absolute.ffconcat": "ffconcat version 1.0\nfile {secret}\n",
    "live.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "key.m3u8": '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-KEY:METHOD=AES-128,URI="secret.mp4"\n'
    "#EXTINF:9,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "net.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:{port}/a.ts\n"
    "#EXT-X-ENDLIST\n",
    "tunnel.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nconcat:secret.mp4|secret.mp4\n"
    "#EXT-X-ENDLIST\n",
    "call.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "stream.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT9S"><Period><AdaptationSet mimeType="video/mp4">'
    '<Representation id="1" bandwidth="1"><BaseURL>secret.mp4</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "film.imf": '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas'
    '/2067-3/2016"><Id>x</Id></CompositionPlaylist>',
    "picture.svg": '<svg xmlns="http://www.w3.org/2000/svg" '
    'xmlns:xlink="http://www.w3.org/1999/xlink"><image xlink:href="secret.mp4"/></svg>',
    "about.ffmetadata": ";FFMETADATA1\ntitle=secret.mp4\n[STREAM]\n",
    "titles.idx": "# VobSub index file, v7\nid: en, index: 0\ntimestamp: 00:00:00, filepos: 0\n",
    "stream.rtsp": "RTSP/1.0 200 OK\nContent-Base: rtsp://127.0.0.1:{port}/\n",
    "redirect.asx": '<asx version="3.0"><entry><ref href="secret.mp4"/></entry></asx>',
}


def playlist(name: str) -> Attack:
    def make(folder: Path) -> Arguments:
        text = PLAYLISTS[name].replace("{secret}", str(folder / "secret.mp4"))
        return played(folder, name, text.replace("{port}", os.environ.get("STAF_TEST_PORT", "9")))

    make.__name__ = f"playlist_{name}"
    return Attack(make, "not a video")


ATTACKS += [playlist(name) for name in PLAYLISTS]


@attack("not one frame|not a video")
def video_whose_samples_are_elsewhere(folder):
    """A QuickTime movie whose samples are said to be in another file."""
    path = made_clips.make_clip(folder / "v.mov", range(3))
    content = path.read_bytes()
    name = str(secret(folder)).encode()
    alias = bytes(6) + bytes(10 - 6) + bytes([4]) + b"disk".ljust(27, b"\0") + bytes(12)
    alias += bytes([10]) + b"secret.mp4".ljust(63, b"\0") + bytes(16) + b"\0\1\0\1" + bytes(16)
    alias += struct.pack(">HH", 2, len(name)) + name + bytes(len(name) % 2) + b"\xff\xff\0\0"
    alias = b"alis" + bytes(4) + alias
    entry = struct.pack(">I", len(alias) + 4) + alias
    start = content.index(b"dref") + 12
    old = content[start : start + int.from_bytes(content[start : start + 4], "big")]
    grown = bytearray(content[:start] + entry + content[start + len(old) :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        place = (content.rindex(box) if box in (b"moov", b"trak") else content.index(box)) - 4
        size = int.from_bytes(content[place : place + 4], "big") + len(entry) - len(old)
        grown[place : place + 4] = size.to_bytes(4, "big")
    path.write_bytes(bytes(grown))
    return ["run", path, "-o", folder / "out"]


@attack("not one frame")
def video_of_a_numbered_name(folder):
    """What FFmpeg takes for a series of pictures: the files beside it would be shown."""
    secret(folder).rename(folder / "secret0.jpg")
    return played(folder, "secret%d.jpg", "no picture")
