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
      y: labels ? trace.y.map((label) => text(short(label, 44))) : trace.y,
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

function layout(chart, width) {
  const ink = dark.matches ? "#e4e9e9" : "#1d2426";
  const grid = dark.matches ? "#2e3739" : "#e4e8e8";
  const labels = chart.kind === "dots" ? new Set(chart.traces.flatMap((trace) => trace.y)).size : 0;
  const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid, automargin: true };
  return {
    font: { family: "system-ui, sans-serif", size: 13, color: ink },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { t: 12, r: 12, b: 48, l: 56 },
    height: labels ? Math.max(180, 100 + 24 * labels) : undefined,
    showlegend: chart.traces.length > 1,
    legend: { orientation: "h", y: -0.25, yanchor: "top", x: 0, font: { size: 12 }, entrywidth: width < 500 ? 1 : undefined, entrywidthmode: "fraction" },
    hovermode: "closest",
    xaxis: { ...axis, type: chart.axis, title: { text: text(chart.x_title), standoff: 10 } },
    yaxis: { ...axis, type: labels ? "category" : "linear", autorange: labels ? "reversed" : true, title: { text: text(chart.y_title), standoff: 8 } },
  };
}

function draw(figure) {
  const canvas = figure.querySelector(".canvas");
  const chart = figure.chart;
  const plan = layout(chart, canvas.clientWidth);
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
    figure.chart = JSON.parse(figure.querySelector(".chart-data").textContent);
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

if (narrow.matches) for (const each of document.querySelectorAll("[data-narrow-closed]")) each.open = false;
for (const table of document.querySelectorAll("table.sortable")) sortable(table);
pictures();
if (window.Plotly) charts();
