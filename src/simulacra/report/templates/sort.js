// Lets a reader sort the tables of numbers: the best first, the worst first, then as the page has them.
const number = (row, column) => {
  const text = row.cells[column].firstChild.textContent.replaceAll(",", "").replace("−", "-").replace("≤", "");
  return Number.parseFloat(text);
};
for (const table of document.querySelectorAll(".board table")) {
  const body = table.tBodies[0];
  const asWritten = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.dataset.better) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const orders = head.dataset.better === "lower" ? ["ascending", "descending"] : ["descending", "ascending"];
    button.addEventListener("click", () => {
      const next = orders[orders.indexOf(head.getAttribute("aria-sort")) + 1];
      for (const other of heads) other.removeAttribute("aria-sort");
      let rows = asWritten;
      if (next) {
        head.setAttribute("aria-sort", next);
        const sign = next === "ascending" ? 1 : -1;
        const known = rows.filter((row) => !Number.isNaN(number(row, column)));
        known.sort((one, other) => sign * (number(one, column) - number(other, column)));
        // What was not measured comes last either way.
        rows = [...known, ...rows.filter((row) => Number.isNaN(number(row, column)))];
      }
      body.append(...rows);
    });
  });
}
