// The ledger's filter: by verdict, by kind of evidence, by what the literature says, and by words. Without this script all rows are shown.
document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("ledger-filter");
  if (!form) return;
  const rows = [...document.querySelectorAll(".ledger tbody tr")].map((row) => ({
    row,
    verdict: row.cells[3].querySelector("strong").textContent,
    kind: row.querySelector(".kind").textContent,
    literature: row.cells[1].querySelector("strong").textContent.replace(".", "").toLowerCase(),
    text: row.textContent.toLowerCase(),
  }));
  const choice = (name, label) => {
    const options = [...new Set(rows.map((r) => r[name]))].sort();
    return `<label>${label} <select name="${name}"><option value="">all</option>${options
      .map((o) => `<option>${o}</option>`)
      .join("")}</select></label>`;
  };
  form.innerHTML =
    choice("verdict", "Verdict") +
    choice("kind", "Kind") +
    choice("literature", "Literature") +
    '<label>Words <input name="words" type="search" placeholder="skip connection"></label><output></output>';
  form.hidden = false;
  const apply = () => {
    const { verdict, kind, literature, words } = Object.fromEntries(new FormData(form));
    const wanted = words.toLowerCase().split(/\s+/);
    for (const r of rows) {
      r.row.hidden =
        (verdict && r.verdict !== verdict) ||
        (kind && r.kind !== kind) ||
        (literature && r.literature !== literature) ||
        !wanted.every((word) => r.text.includes(word));
    }
    document.querySelectorAll(".ledger").forEach((table) => {
      table.closest("section").hidden = !table.querySelector("tbody tr:not([hidden])");
    });
    form.querySelector("output").textContent = `${rows.filter((r) => !r.row.hidden).length} of ${rows.length} claims`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
});
