// What this browser remembers of how a person likes the page.

export function setting(name) {
  try {
    return localStorage.getItem(`alignkit:${name}`) ?? "";
  } catch {
    return "";
  }
}

export function setSetting(name, value) {
  try {
    localStorage.setItem(`alignkit:${name}`, value);
  } catch {
    // Storage is forbidden: it lasts as long as the page.
  }
}

// "light", "dark", or "" for what the system says. Gradio's own parts follow the class on body.
export function applyTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  const dark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.body.classList.toggle("dark", dark);
}
