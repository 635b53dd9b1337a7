const KEPT = "iobench-theme"; // here, so that no other theme is seen before
try {
  const kept = localStorage.getItem(KEPT);
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
} catch {}
