// Before the first paint, so that a remembered theme does not flash; a file, as the page allows no inline script.
try {
  const theme = localStorage.getItem("xpush.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {}
