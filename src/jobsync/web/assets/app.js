// Puts the parts that the server drew anew into their places, and lets times run on. The page is whole without it.
"use strict";
(() => {
  const body = document.body;
  const live = document.getElementById("live");
  let ahead = body.dataset.now ? Number(body.dataset.now) - Date.now() / 1000 : 0;

  const span = (seconds) => {
    for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
      if (seconds >= 2 * size) return `${Math.round(seconds / size)} ${unit}`;
    }
    return seconds >= 10 ? `${Math.round(seconds)} s` : `${Math.max(0, seconds).toFixed(1)} s`;
  };
  const tick = () => {
    const now = Date.now() / 1000 + ahead;
    for (const each of document.querySelectorAll("time[data-at]")) {
      const passed = now - Number(each.dataset.at);
      const style = each.dataset.style;
      const text = style === "left" ? span(-passed) : style === "age" ? span(passed) : `${span(passed)} ago`;
      if (each.textContent !== text) each.textContent = text;
    }
  };

  // What somebody reads or types is not taken from under his eyes: an open traceback, a selection, a field in use.
  const isInUse = (place) =>
    place.querySelector("details[open]:not([data-shown])") !== null ||
    (place.contains(document.activeElement) && document.activeElement.matches("input, select")) ||
    (!getSelection().isCollapsed && place.contains(getSelection().anchorNode));
  const waiting = new Map();
  const put = (name, html) => {
    const place = document.getElementById(name);
    if (!place) return;
    if (isInUse(place)) {
      waiting.set(name, html);
      return;
    }
    waiting.delete(name);
    const focused = place.contains(document.activeElement) ? document.activeElement : null;
    const again = focused && [focused.tagName, focused.getAttribute("value"), focused.getAttribute("href")];
    place.innerHTML = html;
    if (again) {
      const same = [...place.querySelectorAll(again[0])].find(
        (each) => each.getAttribute("value") === again[1] && each.getAttribute("href") === again[2]);
      if (same) same.focus();
    }
    place.dispatchEvent(new CustomEvent("drawn"));
  };

  const say = (state, text) => {
    live.className = `live ${state}`;
    live.lastElementChild.textContent = text;
  };
  if (window.EventSource && body.dataset.events) {
    const events = new EventSource(body.dataset.events);
    events.onmessage = (event) => {
      const news = JSON.parse(event.data);
      if (news.now && news.ok) ahead = news.now - Date.now() / 1000;
      for (const [name, html] of Object.entries(news.parts)) put(name, html);
      say(news.ok ? "on" : "lost", news.state);
      tick();
    };
    events.onerror = () => say("lost", "reconnecting");
    addEventListener("pagehide", () => events.close());
  }
  setInterval(() => {
    for (const [name, html] of waiting) put(name, html);
    tick();
  }, 1000);

  // A node that is pointed at, or focused, stands out in the strip.
  const strip = document.getElementById("strip");
  const show = (node) => {
    if (!strip) return;
    for (const each of strip.querySelectorAll("path")) {
      each.classList.toggle("dim", node !== null && each.dataset.node !== node);
    }
    for (const each of document.querySelectorAll("tr[data-node]")) {
      each.classList.toggle("shown", node !== null && each.dataset.node === node);
    }
  };
  const nodeOf = (event) => event.target.closest("[data-node]")?.dataset.node ?? null;
  document.addEventListener("mouseover", (event) => show(nodeOf(event)));
  document.addEventListener("focusin", (event) => show(nodeOf(event)));

  document.addEventListener("click", (event) => {
    const ask = event.target.closest("button[data-ask]");
    if (ask && !confirm(ask.dataset.ask)) event.preventDefault();
  });
})();
