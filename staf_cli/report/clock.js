"use strict";

/**
 * The time of the whole page, in seconds of the clip's own clock: `time` is asked for, `shown` is
 * that of the picture, which is behind while the video seeks.
 *
 * The overlay video runs it, or a timer where the video cannot be played; the rest of the page
 * works all the same.
 */
function makeClock(video, clip) {
  const listeners = [];
  const quarter = 0.25 / clip.fps; // s: seeks go a little into a frame, so that rounding hits it
  let time = clip.start;
  let shown = clip.start;
  let timer = null; // ms, the timer's last tick, where it runs the clock
  let playing = false;
  let withoutVideo = false; // the timer runs the clock
  let wanted = null; // s, the next seek, while the video is still busy with another

  function notify() {
    listeners.forEach((listen) => listen(clock));
  }

  function within(seconds) {
    return Math.min(clip.end, Math.max(clip.start, seconds));
  }

  function moveTo(next) {
    time = within(next);
    if (withoutVideo) shown = time;
    notify();
  }

  /** The picture is that of another moment now. */
  function pictureIsOf(seconds) {
    shown = within(seconds);
    if (!video.seeking && wanted === null) time = shown;
    notify();
  }

  /** One seek at a time: browsers get stuck on many. */
  function show(seconds) {
    if (video.seeking) wanted = seconds;
    else video.currentTime = seconds;
  }

  function followFrames() {
    if (video.requestVideoFrameCallback) {
      video.requestVideoFrameCallback((_, frame) => {
        pictureIsOf(frame.mediaTime + clip.offset);
        followFrames();
      });
    } else {
      requestAnimationFrame(() => {
        if (playing && !video.seeking) pictureIsOf(video.currentTime + clip.offset);
        followFrames();
      });
    }
  }

  function tick(now) {
    if (!playing || !withoutVideo) return;
    if (timer !== null) moveTo(time + ((now - timer) / 1000) * clock.rate);
    timer = now;
    if (time >= clip.end && !clock.loop) clock.pause();
    else requestAnimationFrame(tick);
    if (time >= clip.end && clock.loop) moveTo(clip.start);
  }

  const clock = {
    rate: 1,
    get time() {
      return time;
    },
    get shown() {
      return shown;
    },
    get playing() {
      return playing;
    },
    listen(listener) {
      listeners.push(listener);
    },
    seek(to) {
      const next = within(to);
      if (!withoutVideo) show(next - clip.offset + quarter);
      moveTo(next);
    },
    step(frames) {
      clock.pause();
      // From the start of a frame: a browser may report a time within one.
      const frame = Math.floor((time - clip.start) * clip.fps + 0.1);
      clock.seek(clip.start + (frame + frames) / clip.fps);
    },
    play() {
      if (time >= clip.end - 1 / clip.fps) clock.seek(clip.start);
      playing = true;
      timer = null;
      if (withoutVideo) requestAnimationFrame(tick);
      else video.play().catch(() => clock.pause()); // a browser may refuse
      notify();
    },
    pause() {
      const stopped = playing && !withoutVideo;
      playing = false;
      video.pause();
      if (stopped)
        moveTo(video.currentTime + clip.offset); // a slow machine shows fewer frames
      else notify();
    },
    get loop() {
      return video.loop;
    },
    setLoop(loop) {
      video.loop = loop;
    },
    setRate(rate) {
      clock.rate = rate;
      video.playbackRate = rate;
    },
    runWithoutVideo() {
      withoutVideo = true;
      shown = time;
      clock.pause();
    },
  };

  video.addEventListener("seeked", () => {
    pictureIsOf(video.currentTime - quarter + clip.offset);
    if (wanted !== null) video.currentTime = wanted;
    wanted = null;
  });
  video.addEventListener("ended", () => clock.pause());
  followFrames();
  return clock;
}
