// Enhances what the page already says: draws charts, sorts tables, and, in a written report, chooses rows.
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 60rem)");

// Colours that are told apart with any colour vision (after Okabe and Ito), for each background.
const COLOURS = {
  light: ["#0072b2", "#d55e00", "#007f5f", "#a3447f", "#8a6a00", "#3a86c8", "#7a3b00", "#5b5b5b"],
  dark: ["#56b4e9", "#ff9d5c", "#35c79b", "#e59ac6", "#f0d24a", "#9ccbf0", "#d8a077", "#bdbdbd"],
};
const DASHES = ["solid", "dash", "dot", "dashdot"];

// The chart library reads markup in names; ours are text.
const text = (value) => String(value).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const short = (value, most) => (value.length > most ? value.slice(0, most - 1) + "…" : value);
const folded = (value) => (text(short(value, 140)).match(/.{1,70}(\s|$)|\S{1,70}/g) || []).join("<br>");

function traces(chart) {
  const colours = COLOURS[dark.matches ? "dark" : "light"];
  const ink = dark.matches ? "#e4e9e9" : "#1d2426";
  return chart.traces.map((trace, number) => {
    const colour = trace.reference ? ink : colours[number % colours.length];
    const dots = chart.kind !== "line";
    const labels = chart.kind === "dots";
    return {
      type: "scatter",
      x: trace.x,
      y: trace.y,
      name: folded(trace.name),
      mode: dots ? "markers" : trace.x.length < 40 ? "lines+markers" : "lines",
      connectgaps: false,
      line: { color: colour, width: trace.reference ? 2.5 : 1.8, dash: trace.reference ? "dot" : DASHES[Math.floor(number / colours.length) % 4] },
      marker: { color: colour, size: labels ? 10 : 6, opacity: labels ? 0.9 : 0.75, symbol: labels ? number % 8 : "circle" },
      customdata: labels ? trace.y.map((label) => folded(label)) : undefined,
      hovertemplate: labels ? "%{customdata}<br><b>%{x}</b>" : "%{x}<br><b>%{y}</b>",
    };
  });
}

function layout(chart) {
  const ink = dark.matches ? "#e4e9e9" : "#1d2426";
  const grid = dark.matches ? "#2e3739" : "#e4e8e8";
  const names = chart.kind === "dots" ? [...new Set(chart.traces.flatMap((trace) => trace.y))] : [];
  const labels = names.length;
  const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid, automargin: true, exponentformat: "power" };
  return {
    font: { family: "system-ui, sans-serif", size: 13, color: ink },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { t: 12, r: 12, b: 48, l: 56 },
    height: labels ? Math.max(180, 100 + 24 * labels) : undefined,
    showlegend: chart.traces.length > 1,
    legend: { orientation: "h", y: -0.25, yanchor: "top", x: 0, font: { size: 12 } },
    hovermode: "closest",
    xaxis: { ...axis, type: chart.axis, title: { text: text(chart.x_title), standoff: 10 } },
    yaxis: { ...axis, type: labels ? "category" : "linear", autorange: labels ? "reversed" : true,
      ...(labels ? { tickvals: names, ticktext: names.map((name) => text(short(name, narrow.matches ? 24 : 44))) } : {}), title: { text: text(chart.y_title), standoff: 8 } },
  };
}

// More labels than this cannot be read; the table has all.
const MOST_LABELS = 40;

function drawable(chart) {
  if (chart.kind !== "dots") return chart;
  const labels = new Set([...new Set(chart.traces.flatMap((trace) => trace.y))].slice(0, MOST_LABELS));
  const traces = chart.traces.map((trace) => {
    const kept = trace.y.flatMap((label, place) => (labels.has(label) ? [place] : []));
    return { ...trace, x: kept.map((place) => trace.x[place]), y: kept.map((place) => trace.y[place]) };
  });
  return { ...chart, traces };
}

function draw(figure) {
  const canvas = figure.querySelector(".canvas");
  const chart = drawable(figure.chart);
  const plan = layout(chart);
  if (plan.height) canvas.style.height = plan.height + "px";
  Plotly.react(canvas, traces(chart), plan, {
    responsive: true,
    displaylogo: false,
    displayModeBar: false,
    locale: "en",
  });
}

// The same numbers, for whoever does not see the chart.
function fill(region, chart) {
  if (region.firstChild) return;
  const labels = chart.kind === "dots";
  const alike = !labels && chart.traces.every((trace) => String(trace.x) === String(chart.traces[0].x));
  const value = (one) => (one === null ? "no value" : String(one));
  let head, rows;
  if (alike) {
    head = [chart.x_title, ...chart.traces.map((trace) => trace.name)];
    rows = chart.traces[0].x.map((x, row) => [value(x), ...chart.traces.map((trace) => value(trace.y[row]))]);
  } else {
    head = ["", labels ? "label" : chart.x_title, labels ? chart.x_title : chart.y_title || "value"];
    rows = chart.traces.flatMap((trace) =>
      trace.x.map((x, row) => (labels ? [trace.name, trace.y[row], value(x)] : [trace.name, value(x), value(trace.y[row])])));
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

function charts() {
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      draw(entry.target);
      entry.target.drawn = true;
    }
  }, { rootMargin: "400px" });
  for (const figure of document.querySelectorAll("figure.chart")) {
    figure.chart ??= JSON.parse(figure.querySelector(".chart-data").textContent);
    const numbers = figure.querySelector(".numbers");
    numbers.addEventListener("toggle", () => fill(numbers.querySelector(".scroll"), figure.chart));
    seen.observe(figure);
  }
  dark.addEventListener("change", () => {
    for (const figure of document.querySelectorAll("figure.chart")) if (figure.drawn) draw(figure);
  });
}

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
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
  for (const [name, value] of query) if (!["q", "page", "by", "e"].includes(name) && value) (wanted[name] ??= []).push(value);
  const words = (query.get("q") || "").toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [...table.tBodies[0].rows];
  const facets = new Map(rows.map((row) => [row, JSON.parse(row.dataset.facets)]));
  const fits = (row, but) =>
    words.every((word) => (row.dataset.words || "").includes(word)) &&
    Object.entries(wanted).every(([name, values]) => name === but ||
      values.some((value) => facets.get(row)[name] === value || (name === "in" && facets.get(row)[name]?.startsWith(value + "/"))));
  for (const row of rows) row.hidden = !fits(row);
  const shown = rows.filter((row) => !row.hidden);
  for (const link of document.querySelectorAll("a[data-facet]")) {
    const { facet, value } = link.dataset;
    const chosen = (wanted[facet] || []).includes(value);
    const count = rows.filter((row) => facets.get(row)[facet] === value && fits(row, facet)).length;
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
  const search = document.querySelector("input[name=q]");
  if (search) search.value = query.get("q") || "";
  for (const [name, values] of Object.entries(wanted)) for (const value of values) {
    const field = document.createElement("input");
    Object.assign(field, { type: "hidden", name, value });
    document.querySelector("form.search")?.append(field);
  }
  const total = document.querySelector("[data-total]");
  if (shown.length < rows.length) total.textContent = `${shown.length} of ${total.textContent}`;
  for (const figure of document.querySelectorAll("figure.chart")) {
    const chart = JSON.parse(figure.querySelector(".chart-data").textContent);
    const numbers = new Set(shown.map((row) => rows.indexOf(row)));
    for (const trace of chart.traces) {
      const kept = trace.rows.map((row, place) => [row, place]).filter(([row]) => numbers.has(row)).map(([, place]) => place);
      for (const part of ["x", "y", "rows"]) trace[part] = kept.map((place) => trace[part][place]);
    }
    chart.traces = chart.traces.filter((trace) => trace.rows.length);
    figure.hidden = !chart.traces.length;
    figure.chart = chart;
  }
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
  const kept = columns.filter((column) => ids.includes(column.dataset.execution)).map((column) => column.dataset.column);
  if (kept.length < 2) return;
  for (const part of document.querySelectorAll("[data-column]"))
    part.hidden = !kept.includes(part.dataset.column) || (part.hasAttribute("data-first") && !kept.includes("0"));
  const letters = columns.filter((column) => !kept.includes(column.dataset.column)).map((column) => column.querySelector(".letter").textContent);
  for (const figure of document.querySelectorAll("figure.chart")) {
    figure.chart = JSON.parse(figure.querySelector(".chart-data").textContent);
    figure.chart.traces = figure.chart.traces.filter((trace) => !letters.includes(trace.name.split(/[ ·]/)[0]));
  }
}

// What a page of the set runs or loads, it does when somebody wants to see it.
for (const each of document.querySelectorAll("details.framed")) {
  const frame = each.querySelector("iframe");
  each.addEventListener("toggle", () => { frame.src ||= frame.dataset.src; });
}
if (narrow.matches) for (const each of document.querySelectorAll("[data-narrow-closed]")) each.open = false;
for (const table of document.querySelectorAll("table.sortable")) sortable(table);
for (const table of document.querySelectorAll("table[data-choose]")) choose(table);
compared();
pictures();
if (window.Plotly) charts();
