"use strict";
(() => {
  const dialog = document.getElementById("large");
  const [below, above] = dialog.querySelectorAll(".slider img");
  const range = dialog.querySelector("input");
  let overlays = true;
  let current = null;

  const source = (image) => (overlays ? image.dataset.marked : image.dataset.plain);
  const images = (item) => [...item.querySelectorAll("img")];

  function slide() {
    above.style.clipPath = `inset(0 0 0 ${100 - Number(range.value)}%)`;
  }

  function enlarge(item) {
    const [one, other] = images(item);
    if (!one || !other) return;
    current = item;
    [below.src, above.src] = [source(one), source(other)];
    dialog.querySelector(".words").textContent = item.querySelector(".prompt").textContent;
    slide();
    if (!dialog.open) dialog.showModal();
  }

  function step(by) {
    const visible = [...current.parentElement.children].filter((item) => !item.hidden && images(item).length === 2);
    enlarge(visible[(visible.indexOf(current) + by + visible.length) % visible.length]);
  }

  function drawOverlays() {
    overlays = !overlays;
    for (const button of document.querySelectorAll(".toggle")) button.setAttribute("aria-pressed", String(overlays));
    for (const image of document.querySelectorAll(".pair img")) image.src = source(image);
    if (current) enlarge(current);
  }

  for (const section of document.querySelectorAll("section")) {
    const filters = section.querySelector(".filters");
    if (!filters) continue;
    const items = [...section.querySelectorAll(".pair")];
    const filter = () => {
      const change = filters.querySelector(".change").value;
      const words = filters.querySelector(".words").value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const item of items) {
        const text = item.textContent.toLowerCase();
        item.hidden = (change && item.dataset.change !== change) || !words.every((word) => text.includes(word));
      }
      const shown = items.filter((item) => !item.hidden).length;
      filters.querySelector(".shown").textContent = `${shown} of ${items.length} shown`;
    };
    for (const control of filters.querySelectorAll("select, input")) control.addEventListener("input", filter);
    for (const item of items) item.querySelector(".open").addEventListener("click", () => enlarge(item));
    filters.hidden = false;
    filter();
  }
  for (const button of document.querySelectorAll(".toggle")) button.addEventListener("click", drawOverlays);
  range.addEventListener("input", slide);
  dialog.querySelector(".next").addEventListener("click", () => step(1));
  dialog.querySelector(".previous").addEventListener("click", () => step(-1));
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => { current = null; });
  document.documentElement.dataset.ready = "yes";
})();
