// The gallery: which generator is shown, and in which order. Without scripts everything is shown in the order it was drawn.
"use strict";
(() => {
  const tools = document.getElementById("gallery-tools");
  const cards = document.getElementById("cards");
  if (!tools || !cards) return;
  tools.hidden = false;
  const drawn = [...cards.children];
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
    cards.append(...sorted);
  };
  for (const tool of [generator, order]) tool.addEventListener("change", update);
  text.addEventListener("input", update);
})();
