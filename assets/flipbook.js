// Turns each <figure class="flipbook"> of pictures into a player: play and pause, slider, arrow keys, swipes.
// Without this script the one picture that is not hidden shows.
(() => {
  "use strict";
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  const icons = {
    play: '<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M4 2.5v11l9.5-5.5z"/></svg>',
    pause: '<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M3.5 2.5h3v11h-3zM9.5 2.5h3v11h-3z"/></svg>',
  };

  function element(tag, attributes) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  }

  function player(figure) {
    const frames = [...figure.querySelectorAll("img")];
    if (frames.length < 2 || figure.querySelector(".flipbook-controls")) return;
    // The still is always there; every other frame holds what differs from it, and lies over it.
    const still = Math.max(0, frames.findIndex((frame) => !frame.hidden));
    let shown = still;
    let timer = null;

    const stage = element("div", { class: "flipbook-stage" });
    frames[0].before(stage);
    stage.append(...frames);
    frames.forEach((frame, i) => { if (i !== still) frame.classList.add("flipbook-over"); });

    const controls = element("div", { class: "flipbook-controls" });
    const button = element("button", { type: "button", class: "flipbook-play" });
    const slider = element("input", { type: "range", min: 0, max: frames.length - 1, step: 1, "aria-label": "Frame" });
    const label = element("output", { class: "flipbook-label", "aria-live": "polite" });
    controls.append(button, slider, label);
    stage.after(controls);
    figure.setAttribute("role", "group");
    figure.setAttribute("aria-label", `Flip-book of ${frames.length} pictures`);

    function show(index) {
      shown = Math.min(Math.max(index, 0), frames.length - 1);
      frames.forEach((frame, i) => { frame.hidden = i !== shown && i !== still; });
      frames[still].setAttribute("aria-hidden", String(shown !== still));
      const text = frames[shown].dataset.label || `${shown + 1} of ${frames.length}`;
      slider.value = shown;
      slider.style.setProperty("--done", `${(100 * shown) / (frames.length - 1)}%`);
      slider.setAttribute("aria-valuetext", text);
      label.textContent = text;
    }

    function pause() {
      clearInterval(timer);
      timer = null;
      button.innerHTML = icons.play;
      button.setAttribute("aria-label", "Play");
      label.setAttribute("aria-live", "polite");
    }

    function play() {
      if (shown === frames.length - 1) show(0);
      const wait = Number(figure.dataset.interval) || 800;
      timer = setInterval(() => {
        show(shown + 1);
        if (shown === frames.length - 1) pause();
      }, calm.matches ? Math.max(wait, 1500) : wait);
      button.innerHTML = icons.pause;
      button.setAttribute("aria-label", "Pause");
      label.setAttribute("aria-live", "off"); // a screen reader is not read every frame
    }

    const step = (index) => { pause(); show(index); };
    const toggle = () => (timer === null ? play() : pause());

    button.addEventListener("click", toggle);
    slider.addEventListener("input", () => step(Number(slider.value)));
    figure.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: shown - 1, ArrowRight: shown + 1, Home: 0, End: frames.length - 1 }[event.key];
      if (to === undefined || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      step(to);
    });

    let start = null;
    stage.addEventListener("pointerdown", (event) => { start = event.isPrimary && event.button === 0 ? event.clientX : null; });
    stage.addEventListener("pointerup", (event) => {
      if (start === null) return;
      const moved = event.clientX - start;
      start = null;
      if (Math.abs(moved) > 30) step(shown - Math.sign(moved));
      else toggle();
    });
    stage.addEventListener("pointercancel", () => { start = null; });
    stage.addEventListener("dragstart", (event) => event.preventDefault());

    // Every label has its room from the start, so that the slider never changes its length.
    const longest = Math.max(...frames.map((frame) => (frame.dataset.label || "").length), 3);
    label.style.setProperty("--characters", longest);
    pause();
    show(shown);
  }

  const start = () => document.querySelectorAll("figure.flipbook").forEach(player);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
