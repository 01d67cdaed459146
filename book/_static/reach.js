// What scrolls sideways, such as a wide figure on a phone, can be reached with the keyboard.
const reach = () => {
  document.querySelectorAll(".bd-article :is(figure, .output, .pst-scrollable-table-container)").forEach((box) => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  });
};
addEventListener("load", reach);
addEventListener("resize", reach);
