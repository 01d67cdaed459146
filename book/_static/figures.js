// A click on a drawing, or Enter, shows it as large as the window allows. It is the drawing itself, not a copy: no id is
// there twice.
document.addEventListener("DOMContentLoaded", () => {
  const dialog = document.createElement("dialog");
  let home = null;
  dialog.className = "enlarged";
  dialog.addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", (event) => event.key === "Escape" && dialog.close()); // the theme keeps it from closing
  dialog.addEventListener("close", () => {
    home.append(...dialog.childNodes);
    home.style.minHeight = "";
    home.focus({ preventScroll: true });
  });
  document.body.append(dialog);
  document.querySelectorAll("figure .plot").forEach((plot) => {
    const open = () => {
      home = plot;
      plot.style.minHeight = `${plot.offsetHeight}px`;
      dialog.append(...plot.childNodes);
      dialog.showModal();
    };
    plot.addEventListener("click", open);
    plot.addEventListener("keydown", (event) => {
      if (event.key === "Enter") open();
      if (event.key.startsWith("Arrow")) event.stopPropagation(); // they scroll, and turn no page
    });
  });
});
