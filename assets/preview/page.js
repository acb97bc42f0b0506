// The preview's page: theme, menu, search, copying code, links to headings, categories.
(() => {
  "use strict";
  const root = document.documentElement.dataset.root;
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const on = (selector, event, action) => all(selector).forEach((node) => node.addEventListener(event, action));

  on(".theme", "click", () => {
    const dark = !document.body.classList.contains("quarto-dark");
    document.body.className = dark ? "quarto-dark" : "quarto-light";
    try { localStorage.setItem("theme", dark ? "dark" : "light"); } catch { /* a page opened as a file may not keep it */ }
  });

  const side = document.querySelector(".side");
  on(".menu", "click", (event) => event.currentTarget.setAttribute("aria-expanded", side.classList.toggle("open")));

  for (const block of all("main div.sourceCode")) {
    const button = document.createElement("button");
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(block.querySelector("code").innerText);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    block.append(button);
  }

  for (const heading of all("main :is(h2, h3, h4)[id]")) {
    const link = document.createElement("a");
    link.className = "anchor";
    link.href = `#${heading.id}`;
    link.textContent = "#";
    link.setAttribute("aria-label", `Link to ${heading.textContent}`);
    heading.append(link);
  }

  const contents = new Map(all(".margin nav a").map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((entry) => entry.isIntersecting && contents.has(entry.target.id))) {
      contents.forEach((link) => link.classList.remove("here"));
      contents.get(entry.target.id).classList.add("here");
    }
  }, { rootMargin: "0px 0px -75% 0px" });
  all("main :is(h2, h3, h4)[id]").forEach((heading) => seen.observe(heading));

  on(".categories button", "click", (event) => {
    const chosen = event.currentTarget;
    const category = chosen.getAttribute("aria-pressed") === "true" ? "" : chosen.dataset.category;
    all(".categories button").forEach((button) => button.setAttribute("aria-pressed", button.dataset.category === category));
    all(".list > .quarto-grid-item").forEach((card) => {
      card.hidden = category !== "" && !JSON.parse(card.dataset.categories).includes(category);
    });
  });

  const dialog = document.querySelector("dialog");
  if (!dialog) return;
  const [box, found] = [dialog.querySelector("input"), dialog.querySelector("ul")];
  let engine = null;
  async function open() {
    dialog.showModal();
    try {
      engine ??= await import(new URL(`${root}pagefind/pagefind.js`, document.baseURI));
    } catch {
      found.innerHTML = "<li>Search works on the served site: make serve</li>";
    }
  }
  function shown(page) {
    const sub = page.sub_results.reduce((best, part) => (part.locations.length > best.locations.length ? part : best));
    const item = document.createElement("li");
    const link = item.appendChild(document.createElement("a"));
    link.href = sub.url;
    link.appendChild(document.createElement("strong")).textContent =
      sub.title === page.meta.title ? page.meta.title : `${page.meta.title}: ${sub.title}`;
    link.appendChild(document.createElement("span")).innerHTML = sub.excerpt;
    return item;
  }
  on(".search", "click", open);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !dialog.open && !event.target.closest("input, textarea")) { event.preventDefault(); open(); }
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  found.addEventListener("click", () => dialog.close());
  box.addEventListener("input", async () => {
    const asked = box.value;
    const result = await engine?.debouncedSearch(asked, {}, 150);
    if (!result || asked !== box.value) return;
    const pages = await Promise.all(result.results.slice(0, 8).map((hit) => hit.data()));
    found.replaceChildren(...pages.map(shown));
    if (asked && !pages.length) found.innerHTML = "<li>Nothing was found.</li>";
  });
})();
