export const byId = (id) => document.getElementById(id);

// Whether the prompt and the completions lie below each other, and the window scrolls.
export const isStacked = () => window.matchMedia("(max-width: 60rem)").matches;
