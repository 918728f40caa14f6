/** The few functions with which the page makes elements. Text is always text: nothing parses HTML. */

type Child = Node | string;
type Attributes = Record<string, string | boolean>;

/** Make an element. An attribute that is false is left out, one that is true has no value. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children);
  return element;
}

/** Give an element its text, unless it has it: a new text would be laid out again. */
export function setText(element: HTMLElement, text: string): void {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/** Make a button that does something. */
export function button(text: string, attributes: Attributes, act: () => void): HTMLButtonElement {
  const element = make("button", { type: "button", ...attributes }, text);
  element.addEventListener("click", act);
  return element;
}

/** Return the element of the page's own template.
 *
 * @throws TypeError if it is not there: the page was changed.
 */
export function byId(id: string): HTMLElement {
  const element = document.getElementById(id);
  if (element === null) {
    throw new TypeError(`the page lacks ${id}`);
  }
  return element;
}
