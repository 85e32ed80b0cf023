'use strict';
// The page works without this file. With it, the page shows changes by itself, does not lose its place when a form is
// sent, filters the catalogue while somebody types, and has keys.
(() => {
  const events = document.body.dataset.events;
  const said = document.getElementById('said');
  const editable = element => element instanceof Element && element.matches('input, select, textarea');
  const say = text => { said.textContent = text; };

  // Make one element equal to another, and keep what the reader did: focus, open details, typed text, a playing video.
  function morph(here, there) {
    if (here.isEqualNode(there)) return;
    if (here.nodeType !== there.nodeType || here.nodeName !== there.nodeName || here.id !== there.id) {
      here.replaceWith(there);
      return;
    }
    if (here.nodeType !== Node.ELEMENT_NODE) { here.data = there.data; return; }
    if ('keep' in here.dataset && here.getAttribute('src') === there.getAttribute('src')) return;
    for (const { name } of [...here.attributes]) {
      if (!there.hasAttribute(name) && name !== 'open') here.removeAttribute(name);
    }
    for (const { name, value } of [...there.attributes]) {
      if (here.getAttribute(name) !== value) here.setAttribute(name, value);
    }
    if (editable(here)) return;
    children(here, there);
  }

  function children(here, there) {
    const wanted = new Set([...there.children].map(one => one.id).filter(Boolean));
    let place = here.firstChild;
    for (const next of [...there.childNodes]) {
      // Elements that are gone make room, so that the others need not be moved: moving loses the focus.
      while (place && place.id && place.id !== next.id && !wanted.has(place.id)) {
        const gone = place;
        place = place.nextSibling;
        gone.remove();
      }
      const same = next.id ? [...here.children].find(one => one.id === next.id) : null;
      if (same && same !== place) here.insertBefore(same, place);
      if (same) place = same;
      if (place && (same || (!place.id && !next.id && place.nodeName === next.nodeName))) {
        const after = place.nextSibling;
        morph(place, next);
        place = after;
      } else {
        here.insertBefore(next, place);
      }
    }
    while (place) { const gone = place; place = place.nextSibling; gone.remove(); }
  }

  let started = performance.now();
  function show(text) {
    const next = new DOMParser().parseFromString(text, 'text/html');
    const problem = next.querySelector('[role=alert]');
    if (problem && !next.querySelector('nav.sections') && document.querySelector('nav.sections')) {
      say(problem.textContent);
      return false;
    }
    document.title = next.title;
    for (const selector of ['header.top', 'nav.sections', 'main']) {
      const here = document.querySelector(selector), there = next.querySelector(selector);
      if (here && there) morph(here, there);
    }
    started = performance.now();
    filter();
    return true;
  }

  // At most two readings a second, one at a time, and none while nobody looks.
  let reading = false, again = false, last = 0;
  async function refresh() {
    again = true;
    if (reading || document.hidden) return;
    reading = true;
    while (again && !document.hidden) {
      again = false;
      await new Promise(done => setTimeout(done, Math.max(0, 500 - (performance.now() - last))));
      last = performance.now();
      try {
        const response = await fetch(location.href);
        if (response.redirected) { location.reload(); return; }
        if (response.ok) show(await response.text());
      } catch { /* The stream says when the server is back. */ }
    }
    reading = false;
  }

  function live(state) {
    const mark = document.querySelector('[data-live]');
    if (mark) { mark.classList.toggle('lost', !state); mark.textContent = state ? 'live' : 'not connected'; }
  }
  if (events) {
    const source = new EventSource(events);
    source.addEventListener('change', () => { live(true); refresh(); });
    source.addEventListener('error', () => live(false));
    document.addEventListener('visibilitychange', refresh);
    window.addEventListener('pagehide', () => source.close());
    window.addEventListener('pageshow', event => { if (event.persisted) location.reload(); });
  }

  // The clock of the world, ticking between two readings.
  setInterval(() => {
    const clock = document.querySelector('[data-clock]');
    if (!clock || Number(clock.dataset.speed) === 0) return;
    const passed = (performance.now() - started) / 1000 * Number(clock.dataset.speed);
    const text = new Date((Number(clock.dataset.clock) + passed) * 1000).toISOString().slice(11, 19);
    if (clock.textContent !== text) clock.textContent = text;
  }, 200);

  document.addEventListener('submit', async event => {
    const form = event.target, button = event.submitter;
    if (!('act' in form.dataset)) return;
    event.preventDefault();
    const body = new URLSearchParams(new FormData(form));
    if (button && button.name) body.set(button.name, button.value);
    try {
      const response = await fetch(form.action, { method: 'POST', body });
      const text = await response.text();
      if (show(text)) say(button ? `${button.getAttribute('aria-label') || button.textContent.trim()}: done` : 'Done');
    } catch { say('The server does not respond.'); }
  });

  function filter() {
    for (const input of document.querySelectorAll('[data-filter]')) {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const item of document.querySelectorAll(`#${CSS.escape(input.dataset.filter)} > li`)) {
        item.hidden = !words.every(word => item.dataset.text.includes(word));
      }
    }
  }
  document.addEventListener('input', event => { if (event.target.matches('[data-filter]')) filter(); });
  filter();

  document.addEventListener('click', async event => {
    const button = event.target.closest('[data-copy]');
    if (!button) return;
    const source = button.parentElement.querySelector('pre');
    try {
      await navigator.clipboard.writeText(source.textContent);
      say('Copied');
    } catch {
      // Not a secure context: the reader copies what is selected.
      getSelection().selectAllChildren(source);
      say('Selected');
    }
  });

  // Keys: digits for the sections, j and k for the rows, / for the search, p and a for the clock, Escape to leave.
  document.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === 'Escape' && editable(document.activeElement)) { document.activeElement.blur(); return; }
    if (editable(document.activeElement)) return;
    if (event.key === 'j' || event.key === 'k') {
      const rows = [...document.querySelectorAll('ol.rows > li > a')];
      const at = rows.findIndex(row => row === document.activeElement || row.getAttribute('aria-current') === 'true' && !rows.includes(document.activeElement));
      const row = rows[Math.min(rows.length - 1, Math.max(0, at + (event.key === 'j' ? 1 : -1)))];
      if (row) { row.focus(); event.preventDefault(); }
    } else if (event.key === '/') {
      const search = document.querySelector('[data-search]');
      if (search) { search.focus(); search.select(); event.preventDefault(); }
    } else {
      const target = document.querySelector(`[data-press="${CSS.escape(event.key)}"]`);
      if (target) { target.click(); event.preventDefault(); }
    }
  });
})();
