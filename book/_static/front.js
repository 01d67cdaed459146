// The beating heart of the front page: three beats when it comes into view, then rest at
// end-diastole; still for readers who asked their system for less motion.
document.addEventListener("DOMContentLoaded", () => {
  const root = document.querySelector("figure.beat");
  if (!root) return;
  const view = root.querySelector("[role=img]"), button = root.querySelector("button");
  const frames = +root.dataset.frames, pause = 2 * root.dataset.beat / frames; // half speed
  let timer = null, left = 0;
  const show = k => { view.style.backgroundPosition = `${100 * k / (frames - 1)}% 0`; };
  const rest = () => { clearInterval(timer); timer = null; show(0); button.textContent = "▶ Play"; };
  const play = () => {
    left = 3 * frames;
    button.textContent = "❚❚ Pause";
    timer = setInterval(() => { left -= 1; if (left <= 0) rest(); else show((frames - left % frames) % frames); }, pause);
  };
  button.addEventListener("click", () => timer ? rest() : play());
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) play();
});
