"use strict";

// Tables: a click on a heading sorts by its numbers, best first, then the other way; unknown values stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = heading.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const lowFirst = button.title.includes("lower");
      const now = heading.getAttribute("aria-sort");
      const ascending = now ? now === "descending" : lowFirst;
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const value = (row) => {
        const text = row.cells[column].dataset.sort;
        return text === "" ? (ascending ? Infinity : -Infinity) : Number(text);
      };
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => (value(a) === value(b) ? 0 : (value(a) < value(b)) === ascending ? -1 : 1));
      table.tBodies[0].append(...rows);
    });
  });
}

// Gallery: filters, order and pages hide cards; without this script all of them show.
const filters = document.getElementById("filters");
if (filters) {
  const PAGE = 24;
  const grid = document.getElementById("cards");
  const cards = [...grid.children];
  const pages = document.getElementById("pages");
  const [before, after] = [document.getElementById("before"), document.getElementById("after")];
  let page = 0;

  const setting = (name) => (filters.elements[name] ? filters.elements[name].value : "");
  const score = (card) => {
    const model = setting("model");
    const text = model === "" ? card.dataset.mean : card.getAttribute(`data-dsc-${model}`);
    return text === null || text === "" ? NaN : Number(text);
  };
  const bound = (name, otherwise) => {
    const text = setting(name).replace(",", ".");
    return text === "" || Number.isNaN(Number(text)) ? otherwise : Number(text);
  };

  const show = () => {
    const [fold, find, order] = [setting("fold"), setting("find").trim().toLowerCase(), setting("order")];
    const [low, high] = [bound("low", 0), bound("high", 1)];
    const model = setting("model");
    const everything = low <= 0 && high >= 1;
    const kept = cards.filter((card) => {
      const value = score(card);
      const inRange = Number.isNaN(value) ? everything && model === "" : value >= low && value <= high;
      return inRange && (fold === "" || card.dataset.fold === fold) && card.dataset.name.includes(find);
    });
    if (order === "worst" || order === "best") {
      const sign = order === "worst" ? 1 : -1;
      const key = (card) => (Number.isNaN(score(card)) ? Infinity : sign * score(card));
      kept.sort((a, b) => (key(a) === key(b) ? 0 : key(a) < key(b) ? -1 : 1));
    }
    const last = Math.max(0, Math.ceil(kept.length / PAGE) - 1);
    page = Math.min(page, last);
    const shown = kept.slice(page * PAGE, (page + 1) * PAGE);
    const visible = new Set(shown);
    for (const card of cards) {
      card.hidden = !visible.has(card);
      for (const part of card.querySelectorAll("path.line:not(.t), .score")) {
        const mine = model === "" || part.classList.contains(`m${model}`);
        part.style.display = mine ? "" : "none";
      }
    }
    grid.append(...shown);
    grid.classList.toggle("plain", !filters.elements.outlines.checked);
    const first = kept.length ? page * PAGE + 1 : 0;
    document.getElementById("count").textContent =
      `${first} to ${first ? first + shown.length - 1 : 0} of ${kept.length} images` +
      (kept.length < cards.length ? `, chosen from ${cards.length}` : "");
    document.getElementById("page").textContent = `Page ${page + 1} of ${last + 1}`;
    pages.hidden = last === 0;
    before.disabled = page === 0;
    after.disabled = page === last;
  };

  const turn = (step) => {
    page += step;
    show();
    document.getElementById("gallery").scrollIntoView();
  };
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("input", () => {
    page = 0;
    show();
  });
  before.addEventListener("click", () => turn(-1));
  after.addEventListener("click", () => turn(1));

  const large = document.getElementById("large");
  grid.addEventListener("click", (event) => {
    const button = event.target.closest(".enlarge");
    if (!button || !large.showModal) return;
    const copy = button.closest(".card").cloneNode(true);
    copy.querySelector(".enlarge").replaceWith(copy.querySelector("svg"));
    const holder = large.querySelector("div");
    holder.className = grid.classList.contains("plain") ? "plain" : "";
    holder.replaceChildren(copy);
    large.showModal();
  });
  large.addEventListener("click", (event) => {
    if (event.target === large) large.close();
  });

  filters.hidden = false;
  show();
}
