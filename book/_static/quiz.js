// Turns a chapter's "Check yourself" into radio buttons. Without this script, or in a notebook, it is a list of questions
// whose answers open on a click; here the chosen option says whether it is right, and opens the reason.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("#check-yourself > details").forEach((answer, k) => {
    const list = answer.previousElementSibling;
    const right = answer.querySelector("strong")?.textContent.replace(".", "");
    if (list?.tagName !== "UL" || !right) return;
    const field = document.createElement("fieldset");
    const question = document.createElement("legend");
    question.append(...list.previousElementSibling.childNodes);
    list.previousElementSibling.remove();
    field.className = "quiz";
    field.append(question);
    const verdict = document.createElement("p");
    verdict.setAttribute("role", "status");
    for (const item of list.children) {
      const label = document.createElement("label");
      const button = Object.assign(document.createElement("input"), { type: "radio", name: `quiz-${k}` });
      const letter = item.querySelector("strong").textContent;
      const words = item.firstElementChild?.tagName === "P" ? item.firstElementChild : item;
      const text = document.createElement("span");
      text.append(...words.childNodes);
      label.append(button, text);
      button.addEventListener("change", () => {
        const good = letter === right;
        field.querySelectorAll("label").forEach((other) => other.removeAttribute("class"));
        label.className = good ? "right" : "wrong";
        verdict.textContent = good ? `✔ ${letter} is right.` : `✘ ${letter} is not the answer. Try again, or read why.`;
        answer.open = good;
      });
      field.append(label);
    }
    list.replaceWith(field);
    field.append(verdict, answer);
  });
});
// On paper every answer and every solution is open.
addEventListener("beforeprint", () => {
  document.querySelectorAll("details:not(.hide)").forEach((details) => (details.open = true));
});
