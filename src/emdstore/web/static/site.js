// Enhances what the page already says: tells values in charts, sorts tables, and, in a written report, chooses rows.
"use strict";

const narrow = matchMedia("(max-width: 75rem)");
const wide = 1000;  // of the box that lines are drawn in

const numbersOf = (figure) => {
  const data = figure.querySelector(".chart-data");
  return (figure.chart ??= data && JSON.parse(data.textContent));
};

// Where the points of a line are, in the units of its box: what the server has written, read again.
function pointsOf(path) {
  if (path.points) return path.points;
  const points = [];
  for (const piece of path.getAttribute("d").split("M").slice(1)) {
    let [x, y, ...steps] = piece.match(/-?\d+/g).map(Number);
    points.push([x, y]);
    for (let place = 2; place + 1 < steps.length; place += 2) points.push([(x += steps[place]), (y += steps[place + 1])]);
  }
  return (path.points = points);
}

const short = (number) => (Math.abs(number) >= 1e-4 && Math.abs(number) < 1e7 || number === 0 ? String(+number.toPrecision(6)) : number.toPrecision(6)).replace("-", "−");

// The name and the value of what is nearest to the pointer, or of what the arrow keys lead to; a click or Enter keeps the line in front.
function explore(figure) {
  const canvas = figure.querySelector(".canvas"), area = figure.querySelector(".area"), tip = document.createElement("p");
  tip.className = "tip";
  tip.hidden = true;
  canvas.append(tip);
  const paths = [...figure.querySelectorAll(".lines path")];
  const names = [...figure.querySelectorAll(".legend li")];
  const mark = (number, kind, on) => {
    for (const each of figure.querySelectorAll(`[data-n="${number}"]`)) each.classList.toggle(kind, on);
    if (on) for (const each of paths) if (each.dataset.n === String(number)) each.parentElement.append(each);
  };
  let front = null, told = null;
  const bring = (number) => {
    if (front === number) return;
    if (front !== null) mark(front, "front", false);
    front = number;
    if (front !== null) mark(front, "front", true);
    area.classList.toggle("chosen", front !== null || figure.querySelector(".lines .pinned") !== null);
  };
  const pin = (number) => {
    if (number === null) return;
    mark(number, "pinned", !figure.querySelector(`.lines [data-n="${number}"]`).classList.contains("pinned"));
    area.classList.toggle("chosen", figure.querySelector(".lines .pinned") !== null);
  };
  const show = (found) => {
    told = found;
    bring(found && found.path.dataset.n);
    tip.hidden = !found;
    if (!found) return;
    const box = area.getBoundingClientRect(), view = area.querySelector(".lines").viewBox.baseVal, around = canvas.getBoundingClientRect();
    tip.textContent = tell(figure, found, names, view.height);
    const left = box.left - around.left + (found.x - view.x) * box.width / view.width;
    tip.style.left = Math.max(0, Math.min(left + 12, around.width - tip.offsetWidth)) + "px";
    tip.style.top = Math.max(0, box.top - around.top + found.y * box.height / view.height - tip.offsetHeight - 10) + "px";
  };
  const look = (event) => {
    const box = area.getBoundingClientRect();
    const view = area.querySelector(".lines").viewBox.baseVal;
    const across = box.width / view.width, down = box.height / view.height;
    let best = null, least = 40;
    for (const path of paths) {
      if (path.hasAttribute("hidden")) continue;
      pointsOf(path).forEach(([x, y], place) => {
        const far = Math.hypot((x - view.x) * across - (event.clientX - box.left), y * down - (event.clientY - box.top));
        if (far < least) [best, least] = [{ path, x, y, place }, far];
      });
    }
    show(best);
  };
  area.addEventListener("pointermove", look);
  area.addEventListener("pointerleave", () => show(null));
  area.addEventListener("click", (event) => {
    if (area.dragged) area.dragged = false;
    else { look(event); pin(front); }
  });
  const zoom = figure.dataset.kind !== "dots" && zoomable(figure);
  canvas.tabIndex = 0;
  canvas.addEventListener("blur", () => show(null));
  canvas.addEventListener("keydown", (event) => {
    const there = paths.filter((path) => !path.hasAttribute("hidden") && pointsOf(path).length);
    const shown = [...new Map(there.map((path) => [path.dataset.n, path])).values()];  // a line, or its marks
    const line = { ArrowUp: -1, ArrowDown: 1 }[event.key], along = { ArrowLeft: -1, ArrowRight: 1 }[event.key], closer = { "+": 0.5, "=": 0.5, "-": 2 }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || !shown.length) return;
    if (line || along) {
      let path = told?.path, place = (told?.place ?? -1) + (along ?? 0);
      if (line || !path) {
        shown.sort((a, b) => a.dataset.n - b.dataset.n);  // what is in front was put last
        path = shown.at((shown.indexOf(path) + (line ?? 1) + (path || line !== -1 ? 0 : 1)) % shown.length);
      }
      const points = pointsOf(path);
      place = Math.min(points.length - 1, Math.max(0, place));
      const [x, y] = points[place];
      if (zoom) zoom.follow(x);
      show({ path, x, y, place });
    } else if (event.key === "Enter") pin(front);
    else if (zoom && closer) { zoom.by(closer, told?.x); show(told); }
    else return;
    event.preventDefault();
  });
  for (const each of names) {
    each.addEventListener("pointerenter", () => bring(each.dataset.n));
    each.addEventListener("pointerleave", () => bring(null));
    each.addEventListener("click", () => pin(each.dataset.n));
  }
}

// A stretch that the pointer or a finger is drawn along is shown in the whole width, and so is what + comes closer to;
// Escape or two clicks show all again.
function zoomable(figure) {
  const area = figure.querySelector(".area"), lines = area.querySelector(".lines"), high = lines.viewBox.baseVal.height;
  const marks = [...area.querySelectorAll(".grid line")].filter((line) => line.getAttribute("x1") === line.getAttribute("x2"));
  const labels = [...figure.querySelectorAll(".x-axis text")];
  const first = new Map([...marks, ...labels].map((each) => [each, parseFloat(each.getAttribute("x") ?? each.getAttribute("x1"))]));
  const band = document.createElementNS(area.namespaceURI, "rect"), all = document.createElement("button");
  Object.assign(all, { type: "button", className: "small all", textContent: "Show all", hidden: true });
  band.setAttribute("class", "band");
  area.classList.add("zoomable");
  figure.querySelector("h3").append(all);
  let start = null, view = [0, wide];
  const show = (from, to) => {
    view = [from, to];
    lines.setAttribute("viewBox", `${from} 0 ${to - from} ${high}`);
    for (const [each, place] of first) {
      const there = (100 * (place * wide / 100 - from)) / (to - from), name = each.tagName === "line" ? ["x1", "x2"] : ["x"];
      each.toggleAttribute("hidden", there < -0.1 || there > 100.1);
      for (const one of name) each.setAttribute(one, there + "%");
    }
    all.hidden = from === 0 && to === wide;
    lines.classList.toggle("zoomed", !all.hidden);
  };
  const around = (middle, width) => {
    const from = Math.min(wide - width, Math.max(0, middle - width / 2));
    show(from, from + width);
  };
  const at = (event) => {
    const box = area.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  };
  area.addEventListener("pointerdown", (event) => { if (event.button === 0 && event.isPrimary) start = at(event); });
  area.addEventListener("pointermove", (event) => {
    if (start === null || Math.abs(at(event) - start) < 0.02) return;
    const [from, to] = [start, at(event)].sort((a, b) => a - b);
    for (const [name, value] of [["x", `${100 * from}%`], ["width", `${100 * (to - from)}%`], ["height", "100%"]]) band.setAttribute(name, value);
    area.append(band);
  });
  const end = () => { start = null; band.remove(); };
  addEventListener("pointercancel", end);  // the finger scrolls the page
  addEventListener("pointerup", (event) => {
    if (start === null) return;
    const [from, to] = [start, at(event)].sort((a, b) => a - b), width = view[1] - view[0];
    end();
    if (to - from < 0.02) return;
    area.dragged = event.pointerType === "mouse";  // the click that follows pins nothing; a finger's drag has none
    show(view[0] + from * width, view[0] + to * width);
  });
  area.addEventListener("dblclick", () => show(0, wide));
  all.addEventListener("click", () => show(0, wide));
  addEventListener("keydown", (event) => { if (event.key === "Escape") show(0, wide); });
  return {
    by: (factor, middle = (view[0] + view[1]) / 2) => around(middle, Math.min(wide, Math.max(10, factor * (view[1] - view[0])))),
    follow: (x) => { if (x < view[0] || x > view[1]) around(x, view[1] - view[0]); },
  };
}

function tell(figure, found, names, high) {
  const number = found.path.dataset.n;
  const name = names.find((each) => each.dataset.n === number)?.textContent;
  const chart = numbersOf(figure);
  const trace = chart?.traces[number];
  if (figure.dataset.kind === "dots") return [trace.notes?.[found.place], trace.y[found.place], name, short(trace.x[found.place])].filter(Boolean).join(" · ");
  // Of all points that have a value, the one that is drawn here.
  const given = trace && trace.y.flatMap((value, place) => (value === null ? [] : [place]));
  if (given && given.length === pointsOf(found.path).length) {
    const place = given[found.place];
    return [name, (trace.x ?? chart.x)[place], short(trace.y[place])].filter((each) => each !== undefined).join(" · ");
  }
  const { low, high: top } = figure.querySelector(".area").dataset;
  return `${name ?? ""} ≈ ${Number((+top - (found.y / high) * (top - low)).toPrecision(3))}`;
}

// The same numbers, for whoever does not see the chart.
function fill(region, chart) {
  if (region.firstChild) return;
  const labels = chart.kind === "dots";
  const alike = chart.x !== undefined;
  const value = (one) => (one === null ? "no value" : String(one));
  let head, rows;
  if (alike) {
    head = [chart.x_title, ...chart.traces.map((trace) => trace.name)];
    rows = chart.x.map((x, row) => [value(x), ...chart.traces.map((trace) => value(trace.y[row]))]);
  } else {
    head = ["", labels ? "label" : chart.x_title, labels ? chart.x_title : chart.y_title || "value"];
    rows = chart.traces.flatMap((trace) =>
      trace.x.map((x, row) => (labels ? [trace.name, [trace.y[row], trace.notes?.[row]].filter(Boolean).join(" · "), value(x)] : [trace.name, value(x), value(trace.y[row])])));
  }
  const table = document.createElement("table");
  const add = (parent, cells, tag) => {
    const line = parent.insertRow();
    for (const each of cells) {
      const cell = document.createElement(tag);
      cell.textContent = each;
      if (tag === "th") cell.scope = "col";
      line.append(cell);
    }
  };
  add(table.createTHead(), head, head.includes("") ? "td" : "th");
  const body = table.createTBody();
  for (const row of rows) add(body, row, "td");
  region.append(table);
}

// What is seen first is ready first: a chart is read when it comes near.
function charts() {
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting) {
      seen.unobserve(target);
      explore(target);
    }
  }, { rootMargin: "400px" });
  for (const figure of document.querySelectorAll("figure[data-kind]")) {
    const numbers = figure.querySelector(".numbers");
    numbers?.addEventListener("toggle", () => fill(numbers.querySelector(".scroll"), numbersOf(figure)));
    seen.observe(figure);
  }
}

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (head.querySelector(".unseen")) return;
    const button = document.createElement("button");
    button.type = "button";
    const link = head.querySelector("a");
    link?.remove();
    button.textContent = head.textContent.trim();
    head.replaceChildren(button, ...(link ? [link] : []));
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const each of heads) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const number = head.classList.contains("number");
      const key = (row) => {
        const cell = row.cells[column];
        return number ? parseFloat((cell.dataset.value ?? cell.textContent).replace("inf", "Infinity")) : cell.textContent.trim();
      };
      const order = (a, b) => {
        if (!number) return a.localeCompare(b, undefined, { numeric: true });
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);  // no value: last, always
        return a - b || 0;
      };
      const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
      rows.sort(([a], [b]) => (number && (Number.isNaN(a) || Number.isNaN(b)) ? order(a, b) : up ? order(a, b) : order(b, a)));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    });
  });
}

// The table of models: one stop for Tab, arrows move; rows and columns can change places and be hidden.
function matrix(table) {
  const cells = () => [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.querySelector("a")));
  const first = () => cells().flat().find(Boolean);
  for (const link of table.querySelectorAll("td a")) link.tabIndex = -1;
  if (first()) first().tabIndex = 0;
  table.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const from = event.target.closest("td");
    if (!step || !from) return;
    event.preventDefault();
    const grid = cells();
    let row = [...table.tBodies[0].rows].indexOf(from.parentElement), column = from.cellIndex, next;
    do next = grid[(row += step[0])]?.[(column += step[1])];
    while (grid[row]?.[column] !== undefined && (!next || !next.offsetParent));
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  const tools = document.querySelector("[data-tools]"), all = tools.querySelector("[data-show-all]");
  tools.hidden = false;
  tools.querySelector("[data-transpose]").addEventListener("click", () => {
    const rows = [...table.rows].map((row) => [...row.cells]);
    const turned = rows[0].map((_, column) => rows.map((row) => row[column]));
    table.tHead.replaceChildren(document.createElement("tr"));
    table.tBodies[0].replaceChildren(...turned.slice(1).map((line) => {
      const row = document.createElement("tr");
      row.append(...line.map((cell, place) => (place ? cell : asHead(cell, "row"))));
      return row;
    }));
    table.tHead.rows[0].append(...turned[0].map((cell, place) => asHead(cell, "col", place > 0)));
    sortable(table);
  });
  const hide = tools.querySelector("[data-hide]");
  hide.addEventListener("click", () => hide.setAttribute("aria-pressed", table.classList.toggle("hiding")));
  table.addEventListener("click", (event) => {
    const head = event.target.closest("th");
    if (!table.classList.contains("hiding") || !head) return;
    event.stopPropagation();
    event.preventDefault();
    if (head.scope === "row") head.parentElement.hidden = true;
    else for (const row of table.rows) row.cells[head.cellIndex].hidden = true;
    all.hidden = false;
  }, true);
  all.addEventListener("click", () => {
    for (const part of table.querySelectorAll("[hidden]")) part.hidden = false;
    all.hidden = true;
  });
}

function asHead(cell, scope, number = false) {
  const head = document.createElement("th");
  head.scope = scope;
  head.textContent = cell.textContent;
  head.title = cell.title;
  head.hidden = cell.hidden;
  head.classList.toggle("number", number);
  return head;
}

// Pictures in large, one after the other by the arrow keys; two of them under one slider.
function lightbox() {
  let links, here = 0, dialog;
  const make = (tag, told = {}, ...inside) => {
    const made = Object.assign(document.createElement(tag), told);
    made.append(...inside);
    return made;
  };
  const image = make("img"), over = make("img", { className: "over", hidden: true }), title = make("strong");
  const other = make("select", { ariaLabel: "Lay another picture over it" });
  const slider = make("input", { type: "range", min: 0, max: 100, value: 50, hidden: true, ariaLabel: "How much of each picture" });
  const cut = () => { over.style.clipPath = `inset(0 0 0 ${slider.value}%)`; };
  const lay = () => {
    over.hidden = slider.hidden = other.value === "";
    if (!over.hidden) Object.assign(over, { src: links[other.value].href, alt: links[other.value].firstElementChild.alt });
    cut();
  };
  const show = (place) => {
    here = (place + links.length) % links.length;
    Object.assign(image, { src: links[here].href, alt: links[here].firstElementChild.alt });
    title.textContent = `${image.alt} (${here + 1} of ${links.length})`;
  };
  const open = (link) => {
    links = [...link.closest(".gallery, .pair, section").querySelectorAll("[data-look]")];
    if (!dialog) {
      const button = (text, step) => make("button", { type: "button", textContent: text, onclick: step });
      dialog = make("dialog", { className: "look" },
        make("p", {}, title, button("Previous", () => show(here - 1)), button("Next", () => show(here + 1)), other, button("Close", () => dialog.close())),
        make("div", { className: "stage" }, image, over), slider);
      dialog.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (step && event.target !== slider && event.target !== other) show(here + step);
      });
      other.addEventListener("change", lay);
      slider.addEventListener("input", cut);
      document.body.append(dialog);
    }
    other.replaceChildren(make("option", { value: "", textContent: "alone" }), ...links.map((each, place) =>
      make("option", { value: place, textContent: "beside " + each.firstElementChild.alt.split(":")[0] })));
    show(links.indexOf(link));
    lay();
    dialog.showModal();
  };
  for (const link of document.querySelectorAll("[data-look]")) link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open(link);
  });
}

// A picture that does not come is said so, in its place.
function pictures() {
  for (const image of document.querySelectorAll(".plot img")) {
    const tell = () => {
      const note = document.createElement("p");
      note.className = "trouble";
      note.textContent = image.alt + ": this plot is missing or not as recorded";
      image.closest(".large").replaceWith(note);
    };
    if (image.complete && !image.naturalWidth && image.currentSrc) tell();
    else image.addEventListener("error", tell, { once: true });
  }
}

// A written report has nobody to ask: it chooses among the rows of its page by itself.
function choose(table) {
  const query = new URLSearchParams(location.search);
  const wanted = {};
  for (const [name, value] of query) if (!["q", "page", "by", "e", "runs"].includes(name) && value) (wanted[name] ??= []).push(value);
  const words = (query.get("q") || "").toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [...table.tBodies[0].rows];
  const places = JSON.parse(table.dataset.places ?? "null");
  const columns = [...table.tHead.rows[0].cells].map((head) => head.dataset.facet);
  const told = (row) => places
    ? { ...places[row.dataset.e], ...Object.fromEntries(columns.flatMap((name, place) => (name ? [[name, row.cells[place].textContent]] : []))) }
    : JSON.parse(row.dataset.facets);
  const facets = new Map(rows.map((row) => [row, told(row)]));
  const every = query.get("runs") === "all" || query.has("in") || query.has("release");
  const has = (row, name, value) => [facets.get(row)[name] ?? []].flat().includes(value);
  const fits = (row, but) =>
    (every || !facets.get(row).older) && words.every((word) => (row.dataset.words || "").includes(word)) &&
    Object.entries(wanted).every(([name, values]) => name === but ||
      values.some((value) => has(row, name, value) || (name === "in" && facets.get(row)[name]?.startsWith(value + "/"))));
  for (const row of rows) row.hidden = !fits(row);
  const shown = rows.filter((row) => !row.hidden);
  for (const link of document.querySelectorAll("a[data-facet]")) {
    const { facet, value } = link.dataset;
    const chosen = (wanted[facet] || []).includes(value);
    const count = rows.filter((row) => has(row, facet, value) && fits(row, facet)).length;
    const there = new URLSearchParams(location.search);
    if (chosen) there.delete(facet, value);
    else there.append(facet, value);
    link.href = location.pathname.replace(/.*\//, "") + (String(there) ? "?" + there : "");
    if (chosen) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
    const number = link.querySelector(".count");
    if (number) {
      number.textContent = count;
      link.parentElement.hidden = !count && !chosen;
    }
  }
  for (const link of document.querySelectorAll("a[data-switch=runs]")) {
    const there = new URLSearchParams(location.search);
    if (query.get("runs") === "all") there.delete("runs");
    else there.set("runs", "all");
    link.href = location.pathname.replace(/.*\//, "") + (String(there) ? "?" + there : "");
    link.toggleAttribute("aria-current", query.get("runs") === "all");
    link.hidden = !rows.some((row) => facets.get(row).older) || (every && !query.has("runs"));
  }
  for (const link of document.querySelectorAll("a[data-keep]")) link.href += location.search;
  const search = document.querySelector("input[name=q]");
  if (search) search.value = query.get("q") || "";
  const kept = { ...wanted, ...(query.has("runs") ? { runs: [query.get("runs")] } : {}) };
  for (const [name, values] of Object.entries(kept)) for (const value of values) {
    const field = document.createElement("input");
    Object.assign(field, { type: "hidden", name, value });
    document.querySelector("form.search")?.append(field);
  }
  const total = document.querySelector("[data-total]");
  if (shown.length < rows.length) total.textContent = `${shown.length.toLocaleString("en")} of ${total.textContent}`;
  const numbers = new Set(shown.map((row) => rows.indexOf(row)));
  for (const figure of document.querySelectorAll("figure[data-kind]")) keepDots(figure, numbers);
}

// Leaves the dots of some rows, and the labels that still have one.
function keepDots(figure, kept) {
  const chart = numbersOf(figure), high = 24;
  figure.dots ??= 1 + Math.max(...chart.traces.flatMap((trace) => trace.rows ?? []));
  const used = new Set(chart.traces.flatMap((trace) => trace.y.filter((_, place) => kept.has(trace.rows[place]))));
  const labels = [...figure.querySelectorAll(".labels li")];
  for (const label of labels) label.hidden = !used.has(label.title);
  const row = new Map(labels.filter((label) => !label.hidden).map((label, place) => [label.title, place]));
  for (const path of figure.querySelectorAll(".lines path")) {
    const trace = chart.traces[path.dataset.n];
    const dots = path.getAttribute("d").split("M").slice(1);
    const stays = dots.map((_, place) => kept.has(trace.rows[place]));
    path.setAttribute("d", dots.flatMap((dot, place) =>
      stays[place] ? [dot.replace(/ \d+h0/, ` ${row.get(trace.y[place]) * high + high / 2}h0`)] : []).map((dot) => "M" + dot).join(""));
    for (const part of ["x", "y", "rows", "notes"]) if (trace[part]) trace[part] = trace[part].filter((_, place) => stays[place]);
  }
  const height = Math.max(1, row.size) * high;
  figure.querySelector(".area").setAttribute("height", height);
  for (const line of figure.querySelectorAll(".grid line")) line.toggleAttribute("hidden", parseFloat(line.getAttribute("y1")) > height);
  figure.querySelector(".lines").setAttribute("viewBox", `0 0 ${wide} ${height}`);
  figure.hidden = !row.size;
  if (kept.size < figure.dots) drawBoxes(figure, row.size, high);
}

// The box of each label that has enough dots: from the first to the third quartile, and the median.
function drawBoxes(figure, labels, high) {
  const boxes = figure.querySelector(".boxes"), found = Array.from({ length: labels }, () => []);
  boxes.setAttribute("viewBox", `0 0 ${wide} ${labels * high}`);
  for (const path of figure.querySelectorAll(".lines path"))
    for (const [, x, y] of path.getAttribute("d").matchAll(/M(-?\d+)[ -](\d+)h/g)) found[Math.floor(y / high)].push(+x);
  boxes.replaceChildren(...found.flatMap((places, label) => {
    if (places.length < 6) return [];
    places.sort((a, b) => a - b);
    const [low, middle, end] = [0.25, 0.5, 0.75].map((part) => {
      const at = part * (places.length - 1), before = Math.floor(at);
      return Math.round(places[before] + (at - before) * (places[Math.ceil(at)] - places[before]));
    });
    const top = label * high + 4;
    return [["box", `M${low} ${top}H${end}V${top + 16}H${low}z`], ["median", `M${middle} ${top}v16`]].map(([kind, d]) => {
      const path = document.createElementNS(boxes.namespaceURI, "path");
      path.setAttribute("class", kind);
      path.setAttribute("d", d);
      return path;
    });
  }));
}

// The list's form leads to the page that compares what was ticked, and that page shows only this.
function compared() {
  const ids = new URLSearchParams(location.search).getAll("e");
  const places = document.getElementById("comparisons");
  if (places && ids.length) {
    const where = JSON.parse(places.textContent);
    const page = where[ids[0]];
    if (ids.length > 1 && page && ids.every((id) => where[id] === page)) location.replace(page + location.search);
    else document.getElementById("apart").hidden = false;
  }
  const columns = [...document.querySelectorAll(".compared > [data-execution]")];
  const asked = columns.filter((column) => ids.includes(column.dataset.execution)).map((column) => column.dataset.column);
  const kept = asked.length > 1 ? asked : (columns[0]?.parentElement.dataset.first ?? "").split(" ").filter(Boolean);
  if (kept.length < 2) return;
  for (const part of document.querySelectorAll("[data-column]")) {
    part.toggleAttribute("hidden", !kept.includes(part.dataset.column) || (part.hasAttribute("data-first") && !kept.includes("0")));
    if (kept.length <= 8) part.classList.replace("many", `c${kept.indexOf(part.dataset.column)}`); // few have colours
  }
  if (asked.length > 1) document.title = `Compare ${asked.map((number) => columns[number].querySelector("strong").textContent).join(", ")} · emdstore`;
}

// What a page of the set runs or loads, it does when somebody wants to see it.
/** Lay two pictures over each other: a slider shows more of one or of the other, or only what differs is bright. */
function overlay(pair) {
  const images = [...pair.querySelectorAll(".side-by-side img")];
  if (images.length !== 2 || pair.querySelectorAll(".side-by-side > div").length !== 2) return;
  const tools = document.createElement("p");
  tools.className = "overlay-tools";
  const over = document.createElement("div");
  over.className = "over";
  over.hidden = true;
  const slider = document.createElement("input");
  Object.assign(slider, { type: "range", min: 0, max: 100, value: 50 });
  slider.setAttribute("aria-label", "How much of the first picture is shown");
  slider.addEventListener("input", () => over.style.setProperty("--at", `${slider.value}%`));
  const show = (how) => {
    if (!over.childElementCount) for (const image of images) over.append(image.cloneNode());
    pair.querySelector(".side-by-side").hidden = how !== "side by side";
    over.hidden = how === "side by side";
    over.dataset.how = how;
    slider.hidden = how !== "swipe";
    for (const button of tools.querySelectorAll("button")) button.setAttribute("aria-pressed", button.value === how);
  };
  for (const how of ["side by side", "swipe", "difference"]) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "small", value: how, textContent: how });
    button.setAttribute("aria-pressed", how === "side by side");
    button.addEventListener("click", () => show(how));
    tools.append(button, " ");
  }
  slider.hidden = true;
  tools.append(slider);
  pair.querySelector(".side-by-side").before(tools);
  pair.querySelector(".side-by-side").after(over);
}

for (const each of document.querySelectorAll(".pair")) overlay(each);
for (const each of document.querySelectorAll("details.framed")) {
  const frame = each.querySelector("iframe");
  each.addEventListener("toggle", () => { frame.src ||= frame.dataset.src; });
}
if (narrow.matches) for (const each of document.querySelectorAll("[data-narrow-closed]")) each.open = false;
document.addEventListener("pointerover", ({ target }) => {
  if (target instanceof Element && target.matches("td[data-value]")) target.title ||= target.dataset.value;  // all digits
});
for (const table of document.querySelectorAll("table.sortable")) sortable(table);
for (const table of document.querySelectorAll("table.matrix")) if (document.querySelector("[data-tools]")) matrix(table);
for (const button of document.querySelectorAll("[data-copy]")) if (navigator.clipboard) {
  button.hidden = false;
  button.addEventListener("click", () => navigator.clipboard.writeText(button.nextElementSibling.textContent)
    .then(() => { button.textContent = "Copied"; }));
}
lightbox();
for (const table of document.querySelectorAll("table[data-choose]")) choose(table);
compared();
pictures();
charts();
