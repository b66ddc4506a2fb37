// Comfort on top of a page that reads without it: hiding harmful text, choosing prompts.
(() => {
  "use strict";
  const PAGE = 40;
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const one = (selector) => document.querySelector(selector);
  document.documentElement.classList.add("js");

  const start = () => {
    const list = one("#items");
    all(".needs-js").forEach((part) => { part.hidden = false; });
    if (!list) return;
    const items = all(".item", list);
    const harmful = items.filter((item) => item.dataset.harmful === "yes");

    const veil = (item, hidden) => {
      item.classList.toggle("veiled", hidden);
      all(".secret", item).forEach((part) => {
        part.inert = hidden;
        part.setAttribute("aria-hidden", String(hidden));
      });
      const button = item.querySelector(".reveal");
      button.textContent = hidden ? list.dataset.show : list.dataset.hide;
      button.setAttribute("aria-pressed", String(!hidden));
    };
    harmful.forEach((item) => {
      veil(item, true);
      item.querySelector(".reveal").addEventListener("click",
        () => veil(item, !item.classList.contains("veiled")));
    });
    const everything = one("#show-all");
    everything.addEventListener("change",
      () => harmful.forEach((item) => veil(item, !everything.checked)));

    const filters = all("select[data-filter]");
    const count = one("#count");
    const more = one("#more");
    let room = PAGE;
    const filter = () => {
      let visible = 0;
      items.forEach((item) => {
        const matches = filters.every(
          (f) => f.value === "" || item.dataset[f.dataset.filter] === f.value);
        visible += matches ? 1 : 0;
        item.hidden = !matches || visible > room;
      });
      count.textContent = count.dataset.text
        .replace("{visible}", visible).replace("{all}", items.length);
      more.hidden = visible <= room;
      more.textContent = more.dataset.text.replace("{count}", Math.min(PAGE, visible - room));
    };
    more.addEventListener("click", () => { room += PAGE; filter(); });
    filters.forEach((f) => f.addEventListener("change", () => { room = PAGE; filter(); }));
    filter();
  };

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
