// Keeps the control page up to date: asks for its live part at the chosen rate and puts it in place.
"use strict";
(() => {
  const live = document.getElementById("live");
  const note = document.getElementById("live-note");
  if (!live || !note) return;
  const pause = Math.max(1, Number(live.dataset.rate) || 10) * 1000;
  let held = false;

  // What the user is doing must not be disturbed: the focus stays where it is, and a button that is
  // being pressed is not taken away from under the finger.
  live.addEventListener("pointerdown", () => { held = true; });
  addEventListener("pointerup", () => { setTimeout(() => { held = false; }, 300); });
  addEventListener("pointercancel", () => { held = false; });

  function show(text) {
    const part = new DOMParser().parseFromString(text, "text/html").body;
    const focused = document.activeElement;
    const at = focused && live.contains(focused) ? focused : null;
    const same = at && (at.id ? "#" + CSS.escape(at.id) : 'button[value="' + CSS.escape(at.value || "") + '"]');
    live.replaceChildren(...part.childNodes);
    const again = same && live.querySelector(same);
    if (again) again.focus({ preventScroll: true });
  }

  async function update() {
    if (!document.hidden && !held) {
      try {
        const answer = await fetch("/secure/control?fragment=1", { cache: "no-store" });
        if (!answer.ok) throw new Error("status " + answer.status);
        show(await answer.text());
        note.textContent = "";
      } catch (error) {
        note.textContent = "No update since the time below: " + error.message;
      }
    }
    setTimeout(update, pause);
  }

  setTimeout(update, pause);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) location.reload(); });
})();
