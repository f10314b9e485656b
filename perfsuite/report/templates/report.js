"use strict";
(() => {
  const root = document.documentElement;
  const stored = (value) => {
    try {
      if (value) localStorage.setItem("perfsuite-theme", value);
      return localStorage.getItem("perfsuite-theme");
    } catch {
      return value || null; // a file may have no storage
    }
  };
  root.classList.add("js");
  const chosen = stored();
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;

  const theme = () => {
    const button = document.getElementById("theme");
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const current = () => root.dataset.theme || (dark.matches ? "dark" : "light");
    const show = () => {
      document.getElementById("theme-name").textContent = current() === "dark" ? "Light" : "Dark";
    };
    button.hidden = false;
    button.addEventListener("click", () => {
      root.dataset.theme = current() === "dark" ? "light" : "dark";
      stored(root.dataset.theme);
      show();
    });
    dark.addEventListener("change", show);
    show();
  };

  const sorting = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    const order = new Intl.Collator("en", { numeric: true });
    const keyOf = (body, column) => {
      const cell = body.rows[0].cells[column];
      return cell.dataset.k ?? cell.textContent;
    };
    const compare = (a, b) => {
      const difference = Number(a) - Number(b);
      return Number.isNaN(difference) ? order.compare(a, b) : difference;
    };
    const sort = (column) => {
      const head = heads[column];
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      const bodies = [...table.tBodies].map((body) => [keyOf(body, column), body]);
      bodies.sort(([a], [b]) => (a === "" || b === "" ? (a === "") - (b === "") : sign * compare(a, b)));
      table.append(...bodies.map(([, body]) => body));
    };
    heads.forEach((head, column) => {
      const button = head.querySelector("button");
      button.disabled = false;
      button.addEventListener("click", () => sort(column));
    });
  };

  const folding = (table) => {
    const all = document.getElementById("unfold");
    const turn = (button, open) => {
      button.setAttribute("aria-expanded", String(open));
      button.closest("tr").nextElementSibling.classList.toggle("open", open);
    };
    table.querySelectorAll(".fold").forEach((button) => turn(button, false));
    table.addEventListener("click", (event) => {
      const button = event.target.closest(".fold");
      if (button) turn(button, button.getAttribute("aria-expanded") !== "true");
    });
    all.hidden = false;
    all.addEventListener("click", () => {
      const open = all.getAttribute("aria-pressed") !== "true";
      all.setAttribute("aria-pressed", String(open));
      all.textContent = open ? "Fold all" : "Unfold all";
      table.querySelectorAll(".fold").forEach((button) => turn(button, open));
    });
  };

  const filtering = (table) => {
    const box = document.getElementById("filter");
    const chips = [...document.querySelectorAll(".chip")];
    const bodies = [...table.tBodies].map((body) => [body, body.textContent.toLowerCase()]);
    const apply = () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      const verdicts = chips.filter((chip) => chip.getAttribute("aria-pressed") === "true").map((chip) => chip.dataset.v);
      let shown = 0;
      for (const [body, text] of bodies) {
        const match = words.every((word) => text.includes(word)) && (!verdicts.length || verdicts.includes(body.dataset.v));
        body.hidden = !match;
        shown += match;
      }
      document.getElementById("count").textContent =
        shown === bodies.length ? `${shown} cases` : `${shown} of ${bodies.length} cases`;
      document.getElementById("none").hidden = shown > 0;
    };
    box.closest("label").hidden = false;
    box.addEventListener("input", apply);
    chips.forEach((chip) => {
      chip.disabled = false;
      chip.addEventListener("click", () => {
        chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
        apply();
      });
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.target.closest("input")) return;
      event.preventDefault();
      box.focus();
    });
    apply();
  };

  document.addEventListener("DOMContentLoaded", () => {
    theme();
    const table = document.getElementById("cases");
    if (!table) return;
    sorting(table);
    folding(table);
    filtering(table);
  });
})();
