// Comfort on top of a page that reads without it: hiding harmful text, choosing prompts, copying.
(() => {
  "use strict";
  const root = document.documentElement;
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const one = (selector) => document.querySelector(selector);
  root.classList.add("js");

  const veil = (item, hidden) => {
    item.classList.toggle("veiled", hidden);
    all(".secret", item).forEach((part) => {
      part.inert = hidden;
      part.setAttribute("aria-hidden", String(hidden));
    });
    const button = item.querySelector(".reveal");
    button.textContent = hidden ? "Show this prompt and its replies" : "Blur again";
    button.setAttribute("aria-pressed", String(!hidden));
  };

  const start = () => {
    const items = all(".item");
    const harmful = items.filter((item) => item.dataset.harmful === "yes");
    all(".needs-js").forEach((part) => { part.hidden = false; });
    harmful.forEach((item) => {
      veil(item, true);
      item.querySelector(".reveal").addEventListener("click",
        () => veil(item, !item.classList.contains("veiled")));
    });

    const everything = one("#show-all");
    if (everything) {
      everything.addEventListener("change",
        () => harmful.forEach((item) => veil(item, !everything.checked)));
    }

    const filters = all("select[data-filter]");
    const count = one("#count");
    const filter = () => {
      let visible = 0;
      items.forEach((item) => {
        item.hidden = !filters.every(
          (f) => f.value === "" || item.dataset[f.dataset.filter] === f.value);
        visible += item.hidden ? 0 : 1;
      });
      if (count) count.textContent = `${visible} of these ${items.length} prompts match`;
    };
    filters.forEach((f) => f.addEventListener("change", filter));
    if (items.length) filter();

    const choose = (box) => all(".reply").forEach((reply) => {
      if (reply.dataset.condition === box.value) reply.hidden = !box.checked;
    });
    all("input[data-condition]").forEach((box) => {
      choose(box);
      box.addEventListener("change", () => choose(box));
    });

    all(".copy").forEach((button) => button.addEventListener("click", async () => {
      const source = button.parentElement.querySelector("code");
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(source);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1600);
    }));
  };

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
