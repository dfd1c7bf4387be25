// A question to answer before a run, and what came out when it is known.
import { node, view, follow } from "./common.js";

let questionCount = 0;

function render({ model, el }) {
  const name = `vlab-question-${(questionCount += 1)}`;
  const root = view(el, "A question to predict");
  const text = node("legend", {}, model.get("text"));
  const choices = node("fieldset", { class: "vlab-question" }, text);
  for (const each of model.get("choices")) {
    const radio = node("input", {
      type: "radio", name, value: each, onchange: () => {
        model.set?.("chosen", each);
        model.save_changes?.();
      },
    });
    choices.append(node("label", {}, radio, node("span", {}, each), node("span", { class: "vlab-question-mark" })));
  }
  const outcome = node("p", { class: "vlab-question-outcome", hidden: true });
  root.prepend(choices, outcome);

  const show = (chosen, answer, why) => {
    for (const label of choices.querySelectorAll("label")) {
      const radio = label.querySelector("input");
      radio.checked = radio.value === chosen;
      radio.disabled = Boolean(answer);
      const right = answer && radio.value === answer;
      label.classList.toggle("right", Boolean(right));
      label.lastChild.textContent = right ? "✓ this is what came out" : "";
    }
    outcome.hidden = !answer;
    if (!answer) return;
    const verdict = !chosen ? "You made no prediction." : chosen === answer ? "As you predicted." : `You predicted: ${chosen}.`;
    outcome.replaceChildren(node("strong", {}, `It is: ${answer}. `), `${why} ${verdict}`);
  };
  return follow(model, ["chosen", "answer", "why"], show);
}

export default { render };
