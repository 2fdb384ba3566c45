"use strict";
(() => {
  const app = document.getElementById("app");
  if (!app) { document.documentElement.dataset.ready = "yes"; return; }
  const settings = JSON.parse(app.dataset.settings);
  const el = (id) => document.getElementById(id);
  const stages = [...document.querySelectorAll(".stage")];
  const OUTBOX = `hafbench/${settings.store}/${settings.rater}/`;
  const REGIONS = [...document.querySelectorAll("[data-region]")].map((one) => one.dataset.region);
  const KINDS = Object.fromEntries([...document.querySelectorAll("[data-kind]")].map((one) => [one.querySelector("kbd").textContent, one.dataset.kind]));
  let task = null, marks = [], active = -1, pending = false, blind = true, busy = true;
  let view = { k: 1, x: 0, y: 0 }, cursor = null, space = false;
  let seconds = 0, since = null, turns = 0;

  const name = () => {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  };
  let tab = sessionStorage.getItem("hafbench-tab");
  if (!tab) sessionStorage.setItem("hafbench-tab", (tab = name()));

  // ---- talking to the server: what was answered waits in the browser until the server says that it is kept
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  function tell(text) { el("problem").textContent = text; el("problem").hidden = !text; }

  // 404 and 422 say that a request fits nothing here. All else may pass: 403 when the new address was opened once.
  const final = (answer) => answer.ok || answer.status === 404 || answer.status === 422;
  async function post(path, body) {
    for (let pause = 300; ; pause = Math.min(3000, pause * 2)) {
      try {
        const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
        if (final(answer)) return answer;
        tell(`${await answer.text()} Your answers are kept in this browser.`);
      } catch {
        tell("The server cannot be reached. Your answers are kept in this browser, and are sent when it is back.");
      }
      await wait(pause);
    }
  }

  async function flush() {
    for (const key of Object.keys(localStorage).filter((one) => one.startsWith(OUTBOX)).sort()) {
      const text = localStorage.getItem(key);
      if (text === null) continue;
      const answer = await post("/api/labels", JSON.parse(text));
      localStorage.removeItem(key);
      if (!answer.ok) { tell(`An answer was refused: ${await answer.text()}`); await wait(2500); }
    }
    tell("");
  }

  async function send(answer) {
    if (busy || !task) return;
    busy = true;
    pause();
    const given = {
      id: name(), item: task.item, turn: task.turn, rater: settings.rater, answer,
      marks: answer === "error" ? marks.filter((mark) => mark.region || mark.kind || mark.box) : [],
      seconds: Math.round(seconds) / 1000, blind,
    };
    localStorage.setItem(`${OUTBOX}${String(Date.now()).padStart(15, "0")}-${given.id}`, JSON.stringify(given));
    for (const stage of stages) stage.classList.add("loading");
    await advance();
  }

  async function advance() {
    busy = true;
    await flush();
    const answer = await post("/api/next", { rater: settings.rater, tab });
    if (!answer.ok) return tell(await answer.text());
    await show(await answer.json());
  }

  async function undo() {
    if (busy) return;
    busy = true;
    await flush();
    const answer = await post("/api/undo", { rater: settings.rater, tab, id: name() });
    const state = answer.ok ? await answer.json() : null;
    busy = false;
    if (state && state.task) await show(state);
    else el("status").textContent = "Nothing to undo.";
  }

  // ---- showing
  async function show(state) {
    const { done, left, seconds: median } = state.progress;
    const total = done + left;
    el("done").textContent = done;
    el("left").textContent = `of ${total}, ${left} left${median ? ` · ${median.toFixed(1)} s each` : ""}`;
    el("bar").style.width = total ? `${(100 * done) / total}%` : "100%";
    task = state.task;
    app.classList.toggle("ended", !task);
    el("end").hidden = Boolean(task);
    if (!task) {
      el("end-text").textContent = left ? `${left} are being looked at by others, or in another tab.` : "All answers are kept. You may close this page.";
      busy = false;
      document.documentElement.dataset.turn = String(++turns);
      return;
    }
    marks = task.marks.map((mark) => ({ ...mark }));
    active = marks.length - 1;
    pending = task.answer === "error";
    blind = true;
    el("prompt").textContent = task.prompt ?? "";
    for (const button of document.querySelectorAll("[data-answer]")) button.classList.toggle("before", button.dataset.answer === task.answer);
    if (el("verdicts")) el("verdicts").replaceChildren();
    if (el("others")) el("others").replaceChildren(...task.others.map((one) => line(`${one.rater}: ${one.answer}${one.marks.map(words).join("")}`)));
    await Promise.all(stages.map((stage, place) => load(stage, task.images[place])));
    fit();
    drawAll();
    seconds = 0;
    since = null;
    resume();
    busy = false;
    el("status").textContent = `${left} left`;
    for (const sha of state.ahead) new Image().src = `/images/${sha}`;
    document.documentElement.dataset.shown = task.item;
    document.documentElement.dataset.turn = String(++turns);
  }

  async function load(stage, shown) {
    const image = stage.querySelector("img");
    stage.classList.add("loading");
    image.src = `/images/${shown.sha256}`;
    try { await image.decode(); } catch { tell("This image cannot be shown: label it as not sure."); }
    stage.size = { w: image.naturalWidth || shown.width || 1, h: image.naturalHeight || shown.height || 1 };
    stage.querySelector("svg").setAttribute("viewBox", `0 0 ${stage.size.w} ${stage.size.h}`);
    stage.classList.remove("loading");
  }

  const line = (text) => Object.assign(document.createElement("li"), { textContent: text });
  const words = (mark) => ` (${[mark.region, mark.kind].filter(Boolean).join(" ") || "error"})`;

  // ---- time: only while the page is seen
  function pause() { if (since !== null) seconds += performance.now() - since; since = null; }
  function resume() { if (since === null && document.visibilityState === "visible") since = performance.now(); }
  document.addEventListener("visibilitychange", () => (document.visibilityState === "visible" ? resume() : pause()));

  // ---- zoom: one view for all stages, in parts of the stage
  function scaleOf(stage) {
    const { clientWidth: width, clientHeight: height } = stage;
    return Math.min(width / stage.size.w, height / stage.size.h);
  }
  function place(stage) {
    const scale = scaleOf(stage) * view.k;
    const x = (stage.clientWidth - stage.size.w * scaleOf(stage)) / 2 * view.k + view.x * stage.clientWidth;
    const y = (stage.clientHeight - stage.size.h * scaleOf(stage)) / 2 * view.k + view.y * stage.clientHeight;
    return { scale, x, y };
  }
  function draw(stage) {
    if (!stage.size) return;
    const { scale, x, y } = place(stage);
    stage.querySelector(".canvas").style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    stage.querySelector("svg").style.setProperty("--pixel", String(1 / scale));
    stage.querySelector("svg").replaceChildren(...rects(stage));
  }
  function rects(stage) {
    if (stage !== stages[0]) return [];
    const others = (task?.others ?? []).flatMap((one) => one.marks).map((mark) => rect(mark.box, "other"));
    return [...others, ...marks.map((mark, index) => rect(mark.box, index === active ? "active" : ""))].filter(Boolean);
  }
  function rect(box, css) {
    if (!box) return null;
    const one = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const [x1, y1, x2, y2] = box;
    for (const [key, value] of Object.entries({ x: x1, y: y1, width: x2 - x1, height: y2 - y1, class: css })) one.setAttribute(key, value);
    return one;
  }
  function redraw() {
    stages.forEach(draw);
    document.documentElement.dataset.zoom = String(view.k);
  }
  function fit() { view = { k: 1, x: 0, y: 0 }; redraw(); }
  function zoom(factor, at) {
    const k = Math.min(24, Math.max(1, view.k * factor));
    const by = k / view.k;
    view = k === 1 ? { k: 1, x: 0, y: 0 } : { k, x: at.x - (at.x - view.x) * by, y: at.y - (at.y - view.y) * by };
    redraw();
  }
  function move(dx, dy) {
    const most = view.k - 1;
    view.x = Math.min(0, Math.max(-most, view.x + dx));
    view.y = Math.min(0, Math.max(-most, view.y + dy));
    stages.forEach(draw);
  }
  const within = (stage, event) => {
    const box = stage.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  };
  function pixel(stage, event) {
    const at = within(stage, event);
    const { scale, x, y } = place(stage);
    const clamp = (value, most) => Math.round(Math.min(most, Math.max(0, value)) * 10) / 10;
    return [clamp((at.x * stage.clientWidth - x) / scale, stage.size.w), clamp((at.y * stage.clientHeight - y) / scale, stage.size.h)];
  }

  // ---- pointers: one draws a box (or moves, where there are none), two pinch
  for (const stage of stages) {
    const pointers = new Map();
    let start = null, pinch = null, before = null;
    const moving = (event) => app.classList.contains("pairs") || space || event.button === 1;
    stage.addEventListener("pointerdown", (event) => {
      if (busy || !task) return;
      event.preventDefault();
      stage.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, event);
      if (pointers.size === 2) {
        if (start?.drawing) { marks = before.marks; active = before.active; pending = before.pending; drawAll(); }
        start = null;
        const [one, other] = [...pointers.values()];
        pinch = { apart: Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY), middle: middle(one, other) };
      } else if (pointers.size === 1) {
        start = { drawing: !moving(event), at: pixel(stage, event), last: event, x: event.clientX, y: event.clientY };
        before = { marks: marks.map((mark) => ({ ...mark })), active, pending };
        start.fresh = start.drawing;
      }
    });
    const middle = (one, other) => ({ clientX: (one.clientX + other.clientX) / 2, clientY: (one.clientY + other.clientY) / 2 });
    stage.addEventListener("pointermove", (event) => {
      cursor = { stage, at: within(stage, event) };
      if (!pointers.has(event.pointerId)) return;
      pointers.set(event.pointerId, event);
      const { width, height } = stage.getBoundingClientRect();
      if (pinch && pointers.size === 2) {
        const [one, other] = [...pointers.values()];
        const apart = Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY), centre = middle(one, other);
        zoom(apart / pinch.apart, within(stage, centre));
        move((centre.clientX - pinch.middle.clientX) / width, (centre.clientY - pinch.middle.clientY) / height);
        pinch = { apart, middle: centre };
      } else if (start && !start.drawing) {
        move((event.clientX - start.last.clientX) / width, (event.clientY - start.last.clientY) / height);
        start.last = event;
      } else if (start && Math.hypot(event.clientX - start.x, event.clientY - start.y) > 5) {
        const [x, y] = pixel(stage, event);
        const box = [Math.min(x, start.at[0]), Math.min(y, start.at[1]), Math.max(x, start.at[0]), Math.max(y, start.at[1])];
        if (start.fresh) {
          start.fresh = false;
          if (active < 0 || marks[active].box) add();
        }
        marks[active].box = box[2] > box[0] && box[3] > box[1] ? box : null;
        drawAll();
      }
    });
    const end = (event) => {
      pointers.delete(event.pointerId);
      if (pointers.size < 2) pinch = null;
      if (!pointers.size) start = null;
    };
    stage.addEventListener("pointerup", end);
    stage.addEventListener("pointercancel", end);
    stage.addEventListener("pointerleave", () => { cursor = null; });
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), within(stage, event));
    }, { passive: false });
  }
  addEventListener("resize", () => stages.forEach(draw));

  // ---- errors
  function add() {
    if (marks.length >= 20) return;
    marks.push({ region: null, kind: null, box: null });
    active = marks.length - 1;
    pending = true;
  }
  function set(field, value) {
    if (busy || !task) return;
    if (active < 0) add();
    pending = true;
    marks[active][field] = marks[active][field] === value ? null : value;
    drawAll();
  }
  function removeMark() {
    if (active >= 0) marks.splice(active, 1);
    active = marks.length - 1;
    drawAll();
  }
  function drawAll() {
    stages.forEach(draw);
    if (!el("marks")) return;
    const current = marks[active];
    for (const one of document.querySelectorAll("[data-region]")) one.setAttribute("aria-pressed", String(current?.region === one.dataset.region));
    for (const one of document.querySelectorAll("[data-kind]")) one.setAttribute("aria-pressed", String(current?.kind === one.dataset.kind));
    document.querySelector("[data-answer=error]").classList.toggle("chosen", pending);
    el("save").hidden = !pending;
    el("hint").textContent = pending ? "Say where and what, as far as you can; another box is another error." : "Drag on the image to box an error.";
    el("marks").replaceChildren(...marks.map((mark, index) => {
      const one = line(`${[mark.region, mark.kind].filter(Boolean).join(" ") || "error"}${mark.box ? ", boxed" : ""}`);
      one.classList.toggle("active", index === active);
      one.addEventListener("click", () => { active = index; drawAll(); });
      return one;
    }));
  }
  function answer(value) {
    if (busy || !task) return;
    if (value === "error" && !pending) { pending = true; drawAll(); return; }
    send(value);
  }

  async function reveal() {
    if (!settings.review || busy || !task) return;
    blind = false;
    const lines = [];
    for (const [index, shown] of task.images.entries()) {
      const found = await fetch(`/api/verdicts/${shown.sha256}`);
      const said = found.ok ? (await found.json()).lines : [await found.text()];
      lines.push(...said.map((text) => (settings.pairs ? `${["left", "right"][index]}: ${text}` : text)));
    }
    el("verdicts").replaceChildren(...lines.map(line));
  }

  // ---- keys and buttons
  const middleOf = () => (cursor ? cursor.at : { x: 0.5, y: 0.5 });
  const shared = {
    z: undo, v: reveal, f: fit, 0: fit,
    "+": () => zoom(1.4, middleOf()), "=": () => zoom(1.4, middleOf()), "-": () => zoom(1 / 1.4, middleOf()),
    "?": () => el("keys").showModal(), h: () => el("keys").showModal(),
  };
  const pairKeys = {
    ArrowLeft: () => answer("left"), a: () => answer("left"), ArrowRight: () => answer("right"), d: () => answer("right"),
    ArrowDown: () => answer("tie"), t: () => answer("tie"),
  };
  const imageKeys = {
    g: () => answer("good"), e: () => answer("error"), u: () => answer("unsure"),
    Enter: () => pending && answer("error"), Backspace: removeMark, Delete: removeMark,
    Escape: () => { marks = []; active = -1; pending = false; drawAll(); },
    ArrowLeft: () => move(0.1, 0), ArrowRight: () => move(-0.1, 0), ArrowUp: () => move(0, 0.1), ArrowDown: () => move(0, -0.1),
    ...Object.fromEntries(REGIONS.map((region, index) => [String(index + 1), () => set("region", region)])),
    ...Object.fromEntries(Object.entries(KINDS).map(([key, kind]) => [key, () => set("kind", kind)])),
  };
  const keys = { ...shared, ...(settings.pairs ? pairKeys : imageKeys) };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || el("keys").open) return;
    if ((event.key === " " || event.key === "Enter") && event.target instanceof HTMLButtonElement) return;
    if (event.key === " ") { space = true; stages.forEach((stage) => stage.classList.add("moving")); event.preventDefault(); return; }
    const act = keys[event.key] ?? keys[event.key.toLowerCase()];
    if (!act || event.repeat && !/^(Arrow|[+=-])/.test(event.key)) return;
    event.preventDefault();
    act();
  });
  addEventListener("keyup", (event) => {
    if (event.key === " ") { space = false; stages.forEach((stage) => stage.classList.remove("moving")); }
  });
  // A button keeps no focus: Enter and space are keys of the page.
  const press = (one, act) => one?.addEventListener("click", () => { one.blur(); act(); });
  for (const one of document.querySelectorAll("[data-answer]")) press(one, () => answer(one.dataset.answer));
  for (const one of document.querySelectorAll("[data-region]")) press(one, () => set("region", one.dataset.region));
  for (const one of document.querySelectorAll("[data-kind]")) press(one, () => set("kind", one.dataset.kind));
  press(el("save"), () => answer("error"));
  press(el("undo"), undo);
  press(el("reveal"), reveal);
  press(el("more"), advance);
  press(el("help"), () => el("keys").showModal());
  press(el("close"), () => el("keys").close());
  advance().then(() => { document.documentElement.dataset.ready = "yes"; });
})();
