"use strict";

/**
 * The one time that the whole page shows, in seconds of the clip's own clock.
 *
 * The overlay video runs it. Where that cannot be played, a timer does, and the rest of the page
 * works all the same.
 */
function makeClock(video, clip) {
  const listeners = [];
  const quarter = 0.25 / clip.fps; // seeks go a little into a frame, so that rounding hits it
  let time = clip.start;
  let timer = null; // what the timer last saw, once it has to run the clock
  let playing = false;
  let alone = false; // without a video
  let wanted = null; // what the video shows next, while it is still on its way elsewhere

  function tell() {
    listeners.forEach((listen) => listen(clock));
  }

  function arrive(next) {
    time = Math.min(clip.end, Math.max(clip.start, next));
    tell();
  }

  /** One seek at a time: browsers get stuck on many. */
  function show(seconds) {
    if (video.seeking) wanted = seconds;
    else video.currentTime = seconds;
  }

  function watchFrames() {
    if (video.requestVideoFrameCallback) {
      video.requestVideoFrameCallback((_, frame) => {
        if (!video.seeking) arrive(frame.mediaTime + clip.offset); // else it is an older frame
        watchFrames();
      });
    } else {
      video.addEventListener("timeupdate", () => arrive(video.currentTime + clip.offset));
    }
  }

  function tick(now) {
    if (!playing || !alone) return;
    if (timer !== null) arrive(time + ((now - timer) / 1000) * clock.rate);
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
      if (!alone) show(next - clip.offset + quarter);
      arrive(next);
    },
    step(frames) {
      clock.pause();
      // From the grid of frames: a browser may say a time within one.
      const frame = Math.floor((time - clip.start) * clip.fps + 0.1);
      clock.seek(clip.start + (frame + frames) / clip.fps);
    },
    play() {
      if (time >= clip.end - 1 / clip.fps) clock.seek(clip.start);
      playing = true;
      timer = null;
      if (alone) requestAnimationFrame(tick);
      else video.play().catch(() => clock.pause()); // a browser may refuse
      tell();
    },
    pause() {
      const stopped = playing && !alone;
      playing = false;
      video.pause();
      if (stopped)
        arrive(video.currentTime + clip.offset); // a slow machine shows fewer frames
      else tell();
    },
    setRate(rate) {
      clock.rate = rate;
      video.playbackRate = rate;
    },
    goOnAlone() {
      alone = true;
      clock.pause();
    },
  };

  video.addEventListener("seeked", () => {
    if (wanted !== null) video.currentTime = wanted;
    wanted = null;
  });
  video.addEventListener("ended", () => clock.pause());
  watchFrames();
  return clock;
}
