// The atlas: keys on every page; on the index searching, sorting and walking through the rows.
(() => {
  "use strict";
  const SLICE = 100; // rows drawn at a time
  const WAIT = 300; // ms until the address follows what is typed: browsers limit how often it may
  const DASH = "\u2013";
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const one = (selector, from = document) => from.querySelector(selector);
  const plainKey = (event) => !(event.ctrlKey || event.metaKey || event.altKey);

  // ---- every page: a key presses what is marked with it; unsafe texts are shown when asked for

  document.addEventListener("keydown", (event) => {
    if (!plainKey(event) || event.target.matches("input, select")) return;
    const marked = one(`[data-key="${CSS.escape(event.key)}"]`);
    if (!marked) return;
    event.preventDefault();
    if (marked.matches("input")) marked.select();
    else marked.click();
  });

  all(".needs-js").forEach((part) => { part.hidden = false; });

  const unveil = one("#unveil");
  if (unveil) {
    const veiled = all("details.context");
    const open = () => veiled.every((context) => context.open);
    const tell = () => {
      unveil.textContent = `${open() ? "Hide" : "Show"} the texts of unsafe prompts (${veiled.length})`;
    };
    veiled.forEach((context) => context.addEventListener("toggle", tell));
    unveil.addEventListener("click", () => {
      const show = !open();
      veiled.forEach((context) => { context.open = show; });
    });
    tell();
  }

  // a feature's page hands on what the index was asked, so that "i" leads back to it
  all("a[data-follow]").forEach((link) => { link.hash = location.hash; });

  // ---- numbers, as atlas.py writes them

  const number = (x) => (x === null ? DASH : Math.abs(x) >= 10 ? x.toFixed(1) : x.toPrecision(3));
  const signed = (x) => (x < 0 ? "" : "+") + x.toFixed(1);
  const whole = (share) => (100 * share).toFixed(0);
  const percent = (x) => {
    if (x === null || x === 0) return x === 0 ? "0 %" : DASH;
    if (x < 1e-5) return "< 0.001 %";
    return `${x >= 0.1 ? (100 * x).toFixed(1) : (100 * x).toPrecision(2)} %`;
  };
  const thousands = (n) => n.toLocaleString("en");

  // ---- the index

  const read = ({ names, rows }) => rows.map(([feature, label, tokens, hazards, density, max, lift,
    detection, effect, found, linked]) => ({
    feature, label, tokens, density, max, lift, detection, effect, found, linked,
    hazard: lift === null ? "" : names[hazards[0]],
    dead: density === 0,
    text: [label, tokens, ...hazards.map((id) => names[id])].join("\n").toLowerCase(),
  }));

  const VALUES = {
    feature: (row) => row.feature,
    label: (row) => row.label.toLowerCase(),
    density: (row) => row.density,
    max: (row) => row.max,
    lift: (row) => row.lift,
    detection: (row) => row.detection && row.detection[0] / row.detection[1],
    effect: (row) => row.effect && row.effect[0],
  };
  const RISING = ["feature", "label"]; // all others start with the largest

  // sorted by a column, what has no value last, equals by their number
  const order = (rows, name, turned) => {
    const way = RISING.includes(name) === turned ? -1 : 1;
    return rows.map((row) => [VALUES[name](row), row]).sort(([a, row], [b, other]) => (
      (a === null) - (b === null) || way * ((a > b) - (a < b)) || row.feature - other.feature
    )).map(([, row]) => row);
  };

  const draw = (pattern, row) => {
    const line = pattern.cloneNode(true);
    const put = (name, text, small) => {
      const cell = one(`[data-cell=${name}]`, line);
      cell.textContent = text;
      if (small) cell.appendChild(document.createElement("small")).textContent = small;
    };
    const ends = ([low, high], write) => (low === null ? "" : `[${write(low)}, ${write(high)}]`);
    one("a", line).href = `feature-${row.feature}.html`;
    one("a", line).dataset.feature = row.feature;
    one(".number", line).textContent = row.feature;
    one(".says", line).textContent = row.label;
    one(".tokens", line).textContent = row.tokens;
    put("feature", row.feature);
    put("density", percent(row.density));
    put("max", number(row.max));
    put("lift", row.lift === null ? DASH : row.lift.toFixed(2), row.hazard);
    const [hits, n, ...sure] = row.detection || [];
    put("detection", n ? `${whole(hits / n)} %` : DASH, n && `${hits}/${n} ${ends(sure, whole)}`);
    const [points, ...between] = row.effect || [];
    put("effect", row.effect ? signed(points) : DASH, row.effect && ends(between, signed));
    return line;
  };

  const index = (rows) => {
    const search = one("#search");
    const show = one("#show");
    const list = one("#rows");
    const pattern = one("#row").content.firstElementChild;
    // at first by what says most: a measured effect, else a hazard
    const usual = ["effect", "lift"].find((name) => rows.some(VALUES[name])) || "feature";
    const sorted = new Map(); // sorting takes longer than searching
    let [sort, turned, from, at, shown, timer] = [usual, false, 0, null, [], 0];

    // the address says q, show, sort ("-" turns it around), from, and at: the row that was opened
    const recall = () => {
      const said = new URLSearchParams(location.hash.slice(1));
      const [, minus, name] = /^(-?)(.*)$/.exec(said.get("sort") || usual);
      search.value = said.get("q") || "";
      show.value = said.get("show");
      if (show.selectedIndex < 0) show.value = "all";
      sort = Object.hasOwn(VALUES, name) ? name : usual;
      turned = minus === "-";
      from = Number(said.get("from")) || 0;
      at = said.has("at") ? Number(said.get("at")) : null;
    };
    const remember = () => {
      clearTimeout(timer);
      const said = new URLSearchParams();
      const say = (name, value, silent) => { if (value !== silent) said.set(name, value); };
      say("q", search.value.trim(), "");
      say("show", show.value, "all");
      say("sort", (turned ? "-" : "") + sort, usual);
      say("from", from, 0);
      say("at", at, null);
      history.replaceState(null, "", `#${said}`);
    };

    const find = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const name = (turned ? "-" : "") + sort;
      if (!sorted.has(name)) sorted.set(name, order(rows, sort, turned));
      shown = sorted.get(name).filter((row) => (show.value === "all" || row[show.value])
        && words.every((word) => row.text.includes(word) || String(row.feature) === word));
      one("#count").textContent = `${thousands(shown.length)} of ${thousands(rows.length)} features match`;
      all("th[data-sort]").forEach((head) => {
        if (head.dataset.sort !== sort) head.removeAttribute("aria-sort");
        else head.setAttribute("aria-sort", RISING.includes(sort) === turned ? "descending" : "ascending");
      });
    };

    const slice = (place) => {
      from = Math.floor(Math.min(Math.max(0, place), Math.max(0, shown.length - 1)) / SLICE) * SLICE;
      const end = Math.min(from + SLICE, shown.length);
      list.replaceChildren(...shown.slice(from, end).map((row) => draw(pattern, row)));
      one("#none").hidden = end > 0;
      one("#slices").hidden = shown.length <= SLICE;
      one("#earlier").disabled = from === 0;
      one("#later").disabled = end === shown.length;
      one("#where").textContent = `${thousands(from + 1)} to ${thousands(end)} of ${thousands(shown.length)}`;
    };

    // to the row at a place of the whole list, whichever slice it is in
    const go = (place) => {
      if (!shown.length) return;
      const wanted = Math.min(Math.max(0, place), shown.length - 1);
      if (wanted < from || wanted >= from + SLICE) slice(wanted);
      one("a", list.children[wanted - from]).focus();
    };

    const again = () => {
      at = null;
      find();
      slice(0);
      clearTimeout(timer);
      timer = setTimeout(remember, WAIT);
    };

    search.addEventListener("input", again);
    show.addEventListener("change", again);
    all("th[data-sort] button").forEach((button) => button.addEventListener("click", () => {
      const name = button.parentElement.dataset.sort;
      turned = name === sort && !turned;
      sort = name;
      again();
    }));
    [["#earlier", -SLICE], ["#later", SLICE]].forEach(([button, step]) => {
      one(button).addEventListener("click", () => { go(from + step); remember(); });
    });
    search.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowDown" && event.key !== "Enter") return;
      event.preventDefault();
      go(from);
    });
    list.addEventListener("keydown", (event) => {
      const here = from + [...list.children].indexOf(event.target.closest("tr"));
      const place = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: shown.length - 1 }[event.key];
      if (place === undefined || !plainKey(event)) return;
      event.preventDefault();
      if (place < 0) search.focus();
      else go(place);
    });
    list.addEventListener("click", (event) => {
      const link = event.target.closest("a");
      if (!link) return;
      at = Number(link.dataset.feature);
      remember();
      link.hash = location.hash;
    });

    const start = () => {
      recall();
      find();
      const place = at === null ? -1 : shown.findIndex((row) => row.feature === at);
      slice(place < 0 ? from : place);
      if (place >= 0) go(place);
    };
    addEventListener("hashchange", start);
    start();
  };

  const data = one("#features");
  if (data) index(read(JSON.parse(data.textContent)));
})();
