"use strict";

/**
 * The one time that the whole page shows, in seconds of the clip's own clock.
 *
 * The overlay video runs it, or a timer where the video cannot be played; the rest of the page
 * works all the same.
 */
function makeClock(video, clip) {
  const listeners = [];
  const quarter = 0.25 / clip.fps; // s: seeks go a little into a frame, so that rounding hits it
  let time = clip.start;
  let timer = null; // ms, the timer's last tick, where it runs the clock
  let playing = false;
  let withoutVideo = false; // the timer runs the clock
  let wanted = null; // s, the next seek, while the video is still busy with another

  function notify() {
    listeners.forEach((listen) => listen(clock));
  }

  function moveTo(next) {
    time = Math.min(clip.end, Math.max(clip.start, next));
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
        if (!video.seeking) moveTo(frame.mediaTime + clip.offset); // else it is an older frame
        followFrames();
      });
    } else {
      video.addEventListener("timeupdate", () => moveTo(video.currentTime + clip.offset));
    }
  }

  function tick(now) {
    if (!playing || !withoutVideo) return;
    if (timer !== null) moveTo(time + ((now - timer) / 1000) * clock.rate);
    timer = now;
    if (time >= clip.end) clock.pause();
    else requestAnimationFrame(tick);
  }

  const clock = {
    rate: 1,
    get time() {
      return time;
    },
    get playing() {
      return playing;
    },
    listen(listener) {
      listeners.push(listener);
    },
    seek(to) {
      const next = Math.min(clip.end, Math.max(clip.start, to));
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
    setRate(rate) {
      clock.rate = rate;
      video.playbackRate = rate;
    },
    runWithoutVideo() {
      withoutVideo = true;
      clock.pause();
    },
  };

  video.addEventListener("seeked", () => {
    if (wanted !== null) video.currentTime = wanted;
    wanted = null;
  });
  video.addEventListener("ended", () => clock.pause());
  followFrames();
  return clock;
}
