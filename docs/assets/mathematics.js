// Renders the formulas of a page with the KaTeX beside this file: a div is one of its own, a span is within a line.
document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll(".katex-source")) {
    katex.render(element.textContent, element, { displayMode: element.tagName === "DIV", throwOnError: false });
  }
});
