"use strict";

// Controls that need this script are shown now. Without it, every number, figure and image is still on the page.
document.documentElement.classList.add("js");
const byId = (id) => document.getElementById(id);

// ---- tables: a button in each heading sorts the rows -------------------------------------------

const NUMBER = /^[<≤≈]?\s*([+\-−]?(?:\d+\.?\d*|\.\d+)(?:e[+\-]?\d+)?)(?=$|[\s%(])/i;
const INFINITE = /^[+\-−]?(?:inf|∞)$/i;

// Return a cell's sort key: a number, a text, or null if it is empty or a dash. `data-sort` replaces the printed text.
function sortKey(cell) {
  const text = (cell.dataset.sort ?? cell.textContent).trim();
  if (/^[-–—−]?$/.test(text) || text.toLowerCase() === "nan") return null;
  if (INFINITE.test(text)) return /^[-−]/.test(text) ? -Infinity : Infinity;
  const number = text.match(NUMBER);
  return number ? Number(number[1].replace("−", "-")) : text;
}

function sortRows(table, column, ascending) {
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => ({ row, key: sortKey(row.cells[column]) }));
  const known = keyed.filter(({ key }) => key !== null);
  const numeric = known.every(({ key }) => typeof key === "number");
  const { compare } = new Intl.Collator("en", { numeric: true });
  const order = numeric
    ? (a, b) => (a === b ? 0 : a < b ? -1 : 1)
    : (a, b) => compare(String(a), String(b));
  known.sort((a, b) => (ascending ? 1 : -1) * order(a.key, b.key));
  const unknown = keyed.filter(({ key }) => key === null);
  body.append(...[...known, ...unknown].map(({ row }) => row));
}

function makeSortable(table) {
  const headings = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  headings.forEach((heading, column) => {
    if (!heading.textContent.trim()) return;
    const button = document.createElement("button");
    const better = heading.dataset.better;
    button.type = "button";
    button.title = "Sort" + (better ? `; ${better === "low" ? "lower" : "higher"} is better` : "");
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const now = heading.getAttribute("aria-sort");
      const ascending = now ? now === "descending" : better !== "high";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sortRows(table, column, ascending);
    });
  });
}

document.querySelectorAll("table.sortable").forEach(makeSortable);

// ---- texts to copy -------------------------------------------------------------------------------

for (const button of document.querySelectorAll("button[data-copies]")) {
  button.addEventListener("click", async () => {
    const source = byId(button.dataset.copies);
    const said = button.nextElementSibling;
    try {
      await navigator.clipboard.writeText(source.innerText.trim());
      said.textContent = "Copied.";
    } catch {
      getSelection().selectAllChildren(source);
      said.textContent = "Selected: copy it with the keyboard.";
    }
  });
}

// ---- gallery: filters, order, pages, a larger view ----------------------------------------------

function startGallery(filters) {
  const grid = byId("cards");
  const layers = byId("layers");
  const large = byId("large");
  const perPage = Number(grid.dataset.page);
  const images = [...grid.children].map(readCard);
  let kept = images; // images that pass the filters, in the chosen order
  let page = 0;
  let current = 0; // index in `kept` of the enlarged image

  function readCard(card) {
    const enlarge = document.createElement("button");
    const picture = card.querySelector(".picture");
    enlarge.type = "button";
    enlarge.className = "enlarge";
    enlarge.setAttribute("aria-label", `Enlarge image ${card.querySelector(".name").textContent}`);
    enlarge.append(...picture.childNodes);
    picture.append(enlarge);
    const scores = [...card.querySelectorAll(".score")].map(({ dataset }) => ({
      model: dataset.model,
      value: Number(dataset.score),
      findings: dataset.findings.split(" "),
    }));
    return { card, scores };
  }

  const setting = (name) => filters.elements[name]?.value.trim() ?? "";
  const bound = (name, otherwise) => {
    const text = setting(name).replace(",", ".");
    return text === "" || Number.isNaN(Number(text)) ? otherwise : Number(text);
  };

  // Return a model's score of an image, or the mean of all models; NaN if there is none.
  function score(image, model) {
    const values = image.scores.filter((each) => !model || each.model === model).map((each) => each.value);
    return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : NaN;
  }

  function choose() {
    const [model, finding, order] = [setting("model"), setting("finding"), setting("order")];
    const find = setting("find").toLowerCase();
    const [low, high] = [bound("low", 0), bound("high", 1)];
    const matches = [...filters.querySelectorAll("select[data-match]")].filter((select) => select.value);
    kept = images.filter((image) => {
      const value = score(image, model);
      const scored = Number.isNaN(value) ? !model && low <= 0 && high >= 1 : low <= value && value <= high;
      const found = image.scores.some((each) => (!model || each.model === model) && each.findings.includes(finding));
      return (
        scored &&
        (!finding || found) &&
        matches.every((select) => image.card.dataset[select.name] === select.value) &&
        image.card.dataset.name.includes(find)
      );
    });
    if (order === "worst" || order === "best") {
      const key = (image) => (order === "worst" ? 1 : -1) * score(image, model);
      const unscored = kept.filter((image) => Number.isNaN(key(image)));
      kept = kept.filter((image) => !Number.isNaN(key(image))).sort((a, b) => key(a) - key(b));
      kept.push(...unscored);
    }
    page = 0;
    show();
  }

  function show() {
    const last = Math.max(0, Math.ceil(kept.length / perPage) - 1);
    const shown = kept.slice(page * perPage, (page + 1) * perPage);
    grid.replaceChildren(...shown.map(({ card }) => card));
    paint(grid);
    const places = shown.length ? `${page * perPage + 1} to ${page * perPage + shown.length} of ` : "";
    const chosen = kept.length < images.length ? `, chosen from ${images.length}` : "";
    byId("count").textContent = `${places}${kept.length} images${chosen}`;
    byId("page").textContent = `Page ${page + 1} of ${last + 1}`;
    byId("pages").hidden = last === 0;
    enable(byId("before"), page > 0);
    enable(byId("after"), page < last);
  }

  // Show the chosen outlines, maps and scores, in the grid or in the larger view.
  function paint(root) {
    const model = setting("model");
    const heat = byId("heat")?.value;
    const ticked = new Set([...layers.querySelectorAll("input:checked")].map((box) => box.dataset.shows));
    for (const part of root.querySelectorAll("[data-layer]")) {
      const layer = part.dataset.layer;
      const outline = ticked.has(layer) && (!model || layer === "t" || layer === `m${model}`);
      part.style.display = outline || layer === heat ? "inline" : "none";
    }
    for (const line of root.querySelectorAll(".score")) line.hidden = Boolean(model) && line.dataset.model !== model;
  }

  // Not `disabled`: the button would lose the focus on the last page.
  const enable = (button, possible) => button.setAttribute("aria-disabled", String(!possible));
  const possible = (button) => button.getAttribute("aria-disabled") !== "true";

  function turn(step) {
    page += step;
    show();
    byId("count").scrollIntoView({ block: "center" });
  }

  function focusOn(place) {
    page = Math.floor(place / perPage);
    show();
    kept[place].card.querySelector(".enlarge").focus();
  }

  function enlarge(place) {
    current = place;
    const copy = kept[place].card.cloneNode(true);
    copy.querySelector(".picture").replaceChildren(copy.querySelector("svg"));
    byId("large-picture").replaceChildren(copy);
    paint(copy);
    const name = copy.querySelector(".name").textContent;
    byId("large-title").textContent = `Image ${name}, ${place + 1} of ${kept.length}`;
    enable(byId("large-before"), place > 0);
    enable(byId("large-after"), place < kept.length - 1);
    if (!large.open) {
      byId("large-layers").append(layers);
      large.showModal();
    }
  }

  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("input", choose);
  filters.addEventListener("reset", () => setTimeout(choose)); // the fields change after the event
  layers.addEventListener("change", () => [grid, large].forEach(paint));
  byId("before").addEventListener("click", (event) => possible(event.currentTarget) && turn(-1));
  byId("after").addEventListener("click", (event) => possible(event.currentTarget) && turn(1));
  byId("large-before").addEventListener("click", (event) => possible(event.currentTarget) && enlarge(current - 1));
  byId("large-after").addEventListener("click", (event) => possible(event.currentTarget) && enlarge(current + 1));
  byId("large-close").addEventListener("click", () => large.close());
  large.addEventListener("click", (event) => event.target === large && large.close()); // on the backdrop
  large.addEventListener("close", () => {
    byId("layers-home").append(layers);
    focusOn(current);
  });

  const placeOf = (card) => kept.findIndex((image) => image.card === card);
  const step = (event) => ({ ArrowLeft: -1, ArrowRight: 1 })[event.key];
  grid.addEventListener("click", (event) => {
    const button = event.target.closest(".enlarge");
    if (button) enlarge(placeOf(button.closest(".card")));
  });
  grid.addEventListener("keydown", (event) => {
    const place = step(event) && placeOf(event.target.closest(".card")) + step(event);
    if (!kept[place]) return;
    event.preventDefault();
    focusOn(place);
  });
  large.addEventListener("keydown", (event) => {
    if (!step(event) || event.target.matches("select") || !kept[current + step(event)]) return;
    event.preventDefault();
    enlarge(current + step(event));
  });

  choose();
}

if (byId("filters")) startGallery(byId("filters"));
