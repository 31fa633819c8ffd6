/** Tables of text: what a server says never becomes markup. */

export function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Fill the table `id`: `heads` of its columns, rows of texts or elements; `empty` is said where there are none. */
export function fill(id, heads, rows, empty) {
  const table = document.getElementById(id);
  const focused = document.activeElement?.dataset?.focus;
  const head = element("tr");
  head.append(...heads.map((text) => element("th", text, { scope: "col" })));
  const body = element("tbody");
  for (const cells of rows) {
    const row = element("tr");
    row.append(...cells.map((cell) => (cell instanceof Node ? wrapped(cell) : element("td", String(cell)))));
    body.append(row);
  }
  if (rows.length === 0) {
    const row = element("tr");
    row.append(element("td", empty, { colspan: heads.length }));
    body.append(row);
  }
  const top = element("thead");
  top.append(head);
  table.replaceChildren(...[table.caption, top, body].filter(Boolean));
  if (focused) table.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus(); // a table filled anew keeps it
}

function wrapped(node) {
  const cell = element("td");
  cell.append(node);
  return cell;
}
