// The gallery: which generator is shown, and in which order. Without scripts everything is shown in the order it was drawn.
"use strict";
(() => {
  const tools = document.getElementById("gallery-tools");
  const cards = document.getElementById("cards");
  if (!tools || !cards) return;
  tools.hidden = false;
  const drawn = [...cards.querySelectorAll(".card")];
  const [seen, folded] = cards.querySelectorAll(".cards");
  const first = seen.children.length;
  const generator = document.getElementById("show-generator");
  const order = document.getElementById("order");
  const text = document.getElementById("search");
  const gain = (card) => {
    const found = [...card.querySelectorAll("[data-gain]")]
      .filter((shown) => generator.value === "" || shown.dataset.generator === generator.value)
      .map((shown) => Number(shown.dataset.gain));
    if (!found.length) return 0;
    return order.value === "worst" ? Math.min(...found) : Math.max(...found);
  };
  const update = () => {
    for (const shown of cards.querySelectorAll("[data-generator]")) {
      shown.hidden = generator.value !== "" && shown.dataset.generator !== generator.value;
    }
    const wanted = text.value.trim().toLowerCase();
    for (const card of drawn) card.hidden = !card.querySelector("h3").textContent.toLowerCase().includes(wanted);
    const sorted = [...drawn];
    if (order.value === "best") sorted.sort((a, b) => gain(b) - gain(a));
    if (order.value === "worst") sorted.sort((a, b) => gain(a) - gain(b));
    sorted.sort((a, b) => a.hidden - b.hidden); // what is found comes before the fold
    seen.append(...sorted.slice(0, first));
    if (folded) folded.append(...sorted.slice(first));
  };
  for (const tool of [generator, order]) tool.addEventListener("change", update);
  text.addEventListener("input", update);
})();

// Zoom: any image of the gallery in a dialog of its own, by mouse or keyboard; Escape closes it.
(() => {
  const dialog = document.getElementById("zoom");
  if (!dialog || !dialog.showModal) return;
  const large = dialog.querySelector("img");
  const words = dialog.querySelector("p");
  const open = (image) => {
    large.src = image.src;
    large.alt = image.alt;
    words.textContent = image.alt;
    dialog.showModal();
  };
  for (const image of document.querySelectorAll("#cards img")) {
    image.tabIndex = 0;
    image.setAttribute("role", "button");
    image.setAttribute("aria-haspopup", "dialog");
    image.addEventListener("click", () => open(image));
    image.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      open(image);
    });
  }
  dialog.addEventListener("click", () => dialog.close());
})();
// What is folded opens for whoever comes by a link, in browsers that do not do so themselves, and on paper.
(() => {
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const around = target && target.closest("details:not([open])");
    if (!around) return;
    around.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  for (const link of document.querySelectorAll("nav a")) link.addEventListener("click", () => setTimeout(reveal));
  reveal();
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open]):not(.recipe)")];
    for (const folded of opened) folded.open = true;
  });
  addEventListener("afterprint", () => {
    for (const folded of opened) folded.open = false;
  });
})();
