// Comfort on top of a page that reads without it: the table of the token under pointer or focus.
(() => {
  "use strict";
  document.documentElement.classList.add("js");

  const start = () => {
    const tokens = [...document.querySelectorAll(".tok")];
    const lens = document.querySelector("#lens");
    if (!tokens.length) return;
    lens.hidden = false;
    document.querySelector("#all details").open = false;

    const show = (token) => {
      tokens.forEach((other) => {
        other.tabIndex = other === token ? 0 : -1;
        other.removeAttribute("aria-current");
      });
      token.setAttribute("aria-current", "true");
      const one = document.querySelector(`#t${token.dataset.at}`).cloneNode(true);
      one.removeAttribute("id");
      lens.replaceChildren(one);
    };

    const step = (token, by) => {
      const next = tokens[tokens.indexOf(token) + by];
      if (next) next.focus();
    };

    tokens.forEach((token) => {
      token.addEventListener("pointerenter", () => show(token));
      token.addEventListener("focus", () => show(token));
      token.addEventListener("click", (event) => {
        event.preventDefault();
        token.focus();
        show(token);
      });
      token.addEventListener("keydown", (event) => {
        const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (by) {
          event.preventDefault();
          step(token, by);
        }
      });
    });
    document.querySelectorAll(".features a").forEach((link) => link.addEventListener("click", (event) => {
      const token = tokens.find((one) => one.getAttribute("href") === link.getAttribute("href"));
      if (!token) return;
      event.preventDefault();
      token.focus();
    }));
    show(tokens.find((token) => "first" in token.dataset) || tokens[0]);
  };

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
