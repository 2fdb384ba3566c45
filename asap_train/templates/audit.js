"use strict";
(() => {
  const items = [...document.querySelectorAll(".item")];
  const filters = document.querySelector(".filters");
  const selects = [...filters.querySelectorAll("select")];
  const words = document.getElementById("words");
  const dialog = document.getElementById("large");
  let current = null;

  function filter() {
    const asked = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const item of items) {
      const text = item.textContent.toLowerCase();
      const like = selects.every((one) => !one.value || item.dataset[one.dataset.filter] === one.value);
      item.hidden = !like || !asked.every((word) => text.includes(word));
    }
    const shown = items.filter((item) => !item.hidden).length;
    document.getElementById("shown").textContent = `${shown} of ${items.length} shown`;
    document.getElementById("nothing").hidden = shown > 0;
  }

  function enlarge(item) {
    current = item;
    const figures = [...item.querySelectorAll("figure")].map((figure) => figure.cloneNode(true));
    dialog.querySelector(".four").replaceChildren(...figures);
    dialog.querySelector(".words").replaceChildren(item.querySelector(".text").cloneNode(true));
    if (!dialog.open) dialog.showModal();
  }

  function step(by) {
    const visible = items.filter((item) => !item.hidden);
    if (visible.length) enlarge(visible[(visible.indexOf(current) + by + visible.length) % visible.length]);
  }

  for (const item of items) item.querySelector(".open").addEventListener("click", () => enlarge(item));
  for (const control of [...selects, words]) control.addEventListener("input", filter);
  dialog.querySelector(".next").addEventListener("click", () => step(1));
  dialog.querySelector(".previous").addEventListener("click", () => step(-1));
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by) step(by);
  });
  filters.hidden = false;
  filter();
  document.documentElement.dataset.ready = "yes";
})();
