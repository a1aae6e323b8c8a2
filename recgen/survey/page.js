"use strict";
(() => {
  const study = document.body.dataset.study;
  const saved = `recgen-study-${study}`;
  const code = document.getElementById("respondent");
  const questions = [...document.querySelectorAll(".question")];
  const rankings = new Map(questions.map((question) => [question.dataset.question, []]));

  // Each respondent has an order of questions and images of their own.
  const shuffle = (parent, children) => {
    const order = [...children];
    for (let last = order.length - 1; last > 0; last--) {
      const other = crypto.getRandomValues(new Uint32Array(1))[0] % (last + 1);
      [order[last], order[other]] = [order[other], order[last]];
    }
    parent.append(...order);
  };
  shuffle(document.querySelector("main"), questions);
  questions.forEach((question) => {
    const options = question.querySelector(".options");
    shuffle(options, options.children);
  });
  [...document.querySelectorAll(".question h2")].forEach((heading, place) => {
    heading.textContent = `${place + 1} of ${questions.length}`;
  });

  const options = (question) => [...question.querySelectorAll(".option")];
  const complete = (question) => rankings.get(question.dataset.question).length === options(question).length;

  const show = () => {
    for (const question of questions) {
      const ranking = rankings.get(question.dataset.question);
      for (const option of options(question)) {
        const place = ranking.indexOf(option.dataset.option);
        option.setAttribute("aria-pressed", String(place >= 0));
        option.querySelector(".rank").textContent = place >= 0 ? String(place + 1) : "";
      }
    }
    const done = questions.filter(complete).length;
    document.getElementById("progress").textContent = `${done} of ${questions.length} questions ranked`;
    for (const id of ["json", "csv"]) document.getElementById(id).disabled = done === 0;
  };

  const keep = () => {
    try {
      localStorage.setItem(saved, JSON.stringify({ code: code.value, rankings: [...rankings] }));
    } catch { /* a browser that keeps nothing for local files: the answers live as long as the page */ }
  };
  const recall = () => {
    try {
      const kept = JSON.parse(localStorage.getItem(saved));
      if (!kept) return;
      code.value = kept.code;
      for (const [question, ranking] of kept.rankings) if (rankings.has(question)) rankings.set(question, ranking);
    } catch { /* as above */ }
  };

  document.querySelector("main").addEventListener("click", (event) => {
    const option = event.target.closest(".option");
    if (!option) return;
    const ranking = rankings.get(option.closest(".question").dataset.question);
    const place = ranking.indexOf(option.dataset.option);
    if (place >= 0) ranking.splice(place, 1);
    else ranking.push(option.dataset.option);
    show();
    keep();
  });
  code.addEventListener("input", keep);

  const answers = () =>
    questions.filter(complete).map((question) => ({
      question: Number(question.dataset.question),
      ranking: rankings.get(question.dataset.question),
      shown: options(question).map((option) => option.dataset.option),
    }));
  const respondent = () => {
    if (!code.value.trim()) code.value = `r${crypto.getRandomValues(new Uint32Array(1))[0].toString(16)}`;
    keep();
    return code.value.trim();
  };
  const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
  const download = (text, type, ending) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = `answers-${study}-${respondent().replace(/[^\w-]+/g, "_")}.${ending}`;
    link.click();
  };
  document.getElementById("json").addEventListener("click", () => {
    const given = { study, respondent: respondent(), answers: answers() };
    download(JSON.stringify(given, null, 1), "application/json", "json");
  });
  document.getElementById("csv").addEventListener("click", () => {
    const who = quoted(respondent());
    const rows = answers().flatMap(({ question, ranking, shown }) =>
      ranking.map((option, place) => [study, who, question, option, place + 1, shown.indexOf(option) + 1].join(",")));
    download(["study,respondent,question,option,rank,place", ...rows, ""].join("\n"), "text/csv", "csv");
  });

  recall();
  show();
})();
