"use strict";
(() => {
  const items = [...document.querySelectorAll(".item")];
  const control = (id) => document.getElementById(id);
  const dialog = control("large");
  const picture = (item) => item.querySelector(".open img");
  let overlays = true;
  let current = null;

  function wanted(item, value, words) {
    const labels = item.dataset.labels.split(" ");
    const scorer = value("scorer");
    const judged = value("judgement")
      ? labels.includes(`${scorer}:${value("judgement")}`)
      : scorer === "any" || ["error", "sound", "scored"].some((name) => labels.includes(`${scorer}:${name}`));
    const text = item.textContent.toLowerCase();
    return (
      judged &&
      (!value("category") || item.dataset.category === value("category")) &&
      (!value("kind") || item.dataset.kinds.split("|").includes(value("kind"))) &&
      words.every((word) => text.includes(word))
    );
  }

  function filter() {
    const value = (id) => control(id)?.value ?? "";
    const words = value("words").toLowerCase().split(/\s+/).filter(Boolean);
    for (const item of items) item.hidden = !wanted(item, value, words);
    const shown = items.filter((item) => !item.hidden).length;
    control("shown").textContent = `${shown} of ${items.length} shown`;
    control("nothing").hidden = shown > 0;
  }

  function show(image, item) {
    const { marked, plain } = picture(item).dataset;
    image.src = overlays ? marked : plain ?? marked;
  }

  function drawOverlays(on) {
    overlays = on;
    for (const button of document.querySelectorAll(".toggle")) button.setAttribute("aria-pressed", String(on));
    for (const item of items) if (picture(item)) show(picture(item), item);
    if (current) show(dialog.querySelector("img"), current);
  }

  function enlarge(item) {
    current = item;
    show(dialog.querySelector("img"), item);
    dialog.querySelector(".toggle").hidden = !picture(item).dataset.plain;
    dialog.querySelector(".words").replaceChildren(item.querySelector(".text").cloneNode(true));
    if (!dialog.open) dialog.showModal();
  }

  function step(by) {
    const visible = items.filter((item) => !item.hidden && picture(item));
    if (visible.length) enlarge(visible[(visible.indexOf(current) + by + visible.length) % visible.length]);
  }

  if (dialog) {
    for (const item of items) {
      const image = picture(item);
      if (image) image.dataset.marked = image.src;
      item.querySelector(".open")?.addEventListener("click", () => enlarge(item));
    }
    for (const id of ["scorer", "judgement", "category", "kind", "words"]) control(id)?.addEventListener("input", filter);
    for (const button of document.querySelectorAll(".toggle")) button.addEventListener("click", () => drawOverlays(!overlays));
    dialog.querySelector(".next").addEventListener("click", () => step(1));
    dialog.querySelector(".previous").addEventListener("click", () => step(-1));
    dialog.querySelector(".close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("keydown", (event) => {
      const act = { ArrowRight: () => step(1), ArrowLeft: () => step(-1), o: () => drawOverlays(!overlays) }[event.key];
      if (act) act();
    });
    document.querySelector(".filters").hidden = false;
    filter();
  }
  document.documentElement.dataset.ready = "yes";
})();
