// The filters over the samples of a page. Without this script the first samples are shown and the others lie
// in a fold. Sections are chosen and moved as they are; no text is ever read as markup.
(() => {
  const form = document.querySelector(".filters");
  const box = document.querySelector(".samples");
  const again = document.querySelector(".again");
  const [select, longest, said] = ["select", "input", "output"].map((tag) => form.querySelector(tag));
  const all = [...box.querySelectorAll(".sample")];
  const step = Number(box.dataset.shown);
  let limit = step;
  const show = () => {
    const chosen = all.filter((one) => !select.value || one.dataset.tags.split(" ").includes(select.value));
    if (longest.checked) chosen.sort((a, b) => b.dataset.words - a.dataset.words);
    box.replaceChildren(...chosen.slice(0, limit));
    again.hidden = chosen.length <= limit;
    said.textContent = `${Math.min(limit, chosen.length)} of ${chosen.length} shown`;
  };
  form.addEventListener("change", () => {
    limit = step;
    show();
  });
  again.addEventListener("click", () => {
    limit += step;
    show();
  });
  form.hidden = false;
  show();
})();
