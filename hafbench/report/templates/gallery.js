"use strict";
(() => {
  const items = [...document.querySelectorAll(".item")];
  const control = (id) => document.getElementById(id);
  const filters = document.querySelector(".filters");
  const dialog = control("large");
  let overlays = true;
  let current = null;

  const picture = (item) => item.querySelector("img");
  for (const item of items) {
    const image = picture(item);
    if (image) image.dataset.marked = image.src;
  }
  const source = (image, marked) => (marked ? image.dataset.marked : image.dataset.plain || image.dataset.marked);

  function apply() {
    const value = (id) => (control(id) ? control(id).value : "");
    const words = value("words").toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const item of items) {
      const text = item.textContent.toLowerCase();
      item.hidden =
        (value("verdict") && item.dataset.verdict !== value("verdict")) ||
        (value("category") && item.dataset.category !== value("category")) ||
        (value("kind") && !item.dataset.kinds.split("|").includes(value("kind"))) ||
        !words.every((word) => text.includes(word));
      if (!item.hidden) shown += 1;
    }
    control("shown").textContent = `${shown} of ${items.length} shown`;
  }

  function enlarge(item) {
    current = item;
    const image = dialog.querySelector("img");
    image.src = source(picture(item), overlays);
    image.alt = picture(item).alt;
    dialog.querySelector(".toggle").hidden = !picture(item).dataset.plain;
    dialog.querySelector(".words").replaceChildren(...[...item.querySelector(".text").childNodes].map((n) => n.cloneNode(true)));
    if (!dialog.open) dialog.showModal();
  }

  function step(by) {
    const visible = items.filter((item) => !item.hidden && picture(item));
    const place = visible.indexOf(current);
    if (visible.length) enlarge(visible[(place + by + visible.length) % visible.length]);
  }

  for (const id of ["verdict", "category", "kind", "words"]) control(id)?.addEventListener("input", apply);
  control("overlays").addEventListener("click", (event) => {
    overlays = !overlays;
    event.target.textContent = overlays ? "hide overlays" : "show overlays";
    event.target.setAttribute("aria-pressed", String(overlays));
    for (const item of items) if (picture(item)) picture(item).src = source(picture(item), overlays);
  });
  for (const item of items) item.querySelector(".open")?.addEventListener("click", () => enlarge(item));
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.querySelector(".next").addEventListener("click", () => step(1));
  dialog.querySelector(".previous").addEventListener("click", () => step(-1));
  dialog.querySelector(".toggle").addEventListener("click", () => {
    const image = dialog.querySelector("img");
    const marked = source(picture(current), true);
    image.src = image.src === marked ? source(picture(current), false) : marked;
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") step(1);
    if (event.key === "ArrowLeft") step(-1);
  });
  filters.hidden = false;
  document.documentElement.dataset.ready = "yes";
  apply();
})();
