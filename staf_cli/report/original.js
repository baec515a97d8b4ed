"use strict";

/**
 * The video without bodies, under the overlay. It follows the picture of the overlay to the frame,
 * and costs nothing while `wanted` is false. `ready` is called if it is the same clip.
 */
function followPicture(original, overlay, clip, clock, ready) {
  const frame = 1 / clip.fps;
  let wanted = false;

  function follow() {
    if (!wanted) return;
    const target = clock.shown + frame / 4; // s: into the frame, as the clock seeks
    const off = Math.abs(original.currentTime - target);
    if (clock.playing && !overlay.seeking) {
      original.playbackRate = clock.rate;
      if (original.paused) original.play().catch(() => {}); // a browser may refuse
      if (off > 2 * frame && !original.seeking) original.currentTime = target;
    } else {
      original.pause();
      if (off > frame / 8 && !original.seeking) original.currentTime = target;
    }
  }

  function isSameClip() {
    const stretch = original.videoWidth / original.videoHeight / overlay.videoWidth;
    const sameShape = Math.abs(stretch * overlay.videoHeight - 1) < 0.01; // no panel beside it
    return sameShape && original.duration + 2 * frame > clip.end;
  }

  for (const one of [original, overlay]) {
    one.addEventListener("loadedmetadata", () => {
      if (original.readyState && overlay.readyState && isSameClip()) ready();
    });
  }
  original.addEventListener("seeked", follow);
  clock.listen(follow);
  if (clip.original) original.src = clip.original;

  return {
    want(whether) {
      wanted = whether;
      if (wanted) follow();
      else original.pause();
    },
  };
}
