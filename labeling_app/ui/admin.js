// The admin pages follow the light or dark that this browser chose on the annotate page.

import { applyTheme, setting } from "./settings.js";

applyTheme(setting("theme"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => applyTheme(setting("theme")));

// The whole invitation is chosen at once, to be copied.
document.addEventListener("focusin", event => {
    if (event.target.id === "ad-invited") event.target.select();
});
