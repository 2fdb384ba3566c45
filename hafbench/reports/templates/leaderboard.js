"use strict";
(() => {
  const control = (id) => document.getElementById(id);
  const boards = [...document.querySelectorAll(".board")];

  function filter() {
    const value = (id) => control(id)?.value ?? "";
    const words = value("words").toLowerCase().split(/\s+/).filter(Boolean);
    for (const board of boards) {
      for (const row of board.querySelectorAll(".entry")) {
        const text = row.dataset.words.toLowerCase();
        const licensed = !value("licence") || row.dataset.licence === value("licence");
        row.hidden = !licensed || !words.every((word) => text.includes(word));
      }
      const left = board.querySelectorAll("table:first-of-type .entry:not([hidden])").length;
      board.hidden = left === 0 || (value("suite") && board.dataset.suite !== value("suite"));
    }
    const every = boards.map((board) => [...board.querySelector("table").querySelectorAll(".entry")]);
    const shown = every.flat().filter((row) => !row.hidden && !row.closest(".board").hidden).length;
    control("shown").textContent = `${shown} of ${every.flat().length} entries`;
    control("nothing").hidden = shown > 0;
  }

  function sort(head) {
    const place = head.cellIndex;
    const body = head.closest("table").tBodies[0];
    const up = head.getAttribute("aria-sort") !== "ascending";
    const key = (row) => {
      const cell = row.cells[place];
      if (!("value" in cell.dataset)) return cell.textContent.trim().toLowerCase();
      return cell.dataset.value === "" ? null : Number(cell.dataset.value);
    };
    const compare = (a, b) => {
      const [one, other] = [key(a), key(b)];
      // What is missing comes last, whichever way up.
      if (one === null || other === null) return (one === null) - (other === null);
      const order = typeof one === "string" ? one.localeCompare(other) : one - other;
      return up ? order : -order;
    };
    body.append(...[...body.rows].sort(compare));
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
  }

  for (const button of document.querySelectorAll(".sort")) button.addEventListener("click", () => sort(button.closest("th")));
  for (const id of ["suite", "licence", "words"]) control(id)?.addEventListener("input", filter);
  document.querySelector(".filters").hidden = false;
  filter();
  document.documentElement.dataset.ready = "yes";
})();
