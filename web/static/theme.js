// Before anything is drawn: the theme that was chosen, else the system's. A classic script, so that nothing flashes.
(() => {
  const chosen = (() => {
    try {
      return localStorage.getItem("pantau.theme");
    } catch {
      return null; // storage may be forbidden
    }
  })();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const preset = document.documentElement.dataset.preset; // a page for the sun begins light
  const show = (theme) => {
    document.documentElement.dataset.theme = theme ?? preset ?? (dark.matches ? "dark" : "light");
    dispatchEvent(new Event("pantau-theme"));
  };
  let theme = chosen === "dark" || chosen === "light" ? chosen : null;
  show(theme);
  dark.addEventListener("change", () => show(theme));
  globalThis.pantauTheme = {
    get now() {
      return document.documentElement.dataset.theme;
    },
    toggle() {
      theme = this.now === "dark" ? "light" : "dark";
      try {
        localStorage.setItem("pantau.theme", theme);
      } catch {
        // not remembered then
      }
      show(theme);
    },
  };
})();
