export const byId = (id) => document.getElementById(id);

// Return whether the prompt and the completions are below each other, so that the window scrolls.
export const isStacked = () => window.matchMedia("(max-width: 60rem)").matches;
