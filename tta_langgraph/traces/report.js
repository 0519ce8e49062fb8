"use strict";
// Everything on the page works without this script; it only switches the theme and filters episodes.
(() => {
  const root = document.documentElement;
  const theme = document.querySelector(".theme");
  const dark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  if (theme) {
    theme.hidden = false;
    const label = () => { theme.textContent = dark() ? "Light" : "Dark"; };
    theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; label(); });
    label();
  }
  for (const bar of document.querySelectorAll(".filters")) {
    bar.hidden = false;
    const list = document.getElementById(bar.dataset.for);
    const count = bar.querySelector("[role=status]");
    bar.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      for (const other of bar.querySelectorAll("button")) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      let shown = 0;
      for (const episode of list.children) {
        episode.hidden = !(button.value === "" || episode.dataset.kind.split(" ").includes(button.value));
        shown += !episode.hidden;
      }
      count.textContent = `${shown} shown`;
    });
  }
})();
