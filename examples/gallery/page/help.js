// Small helpers. What a client or a server named is only ever written as text, never as markup.

export const byId = (id) => document.getElementById(id);
export const stamp = (template) => byId(template).content.firstElementChild.cloneNode(true);
export const say = (news) => (byId("news").textContent = news);

export const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
export const time = (ms) => (ms < 1 ? "<1 ms" : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

export function bytes(n) {
  if (n < 1000) return count(n, "byte");
  const unit = Math.min(Math.floor(Math.log10(n) / 3), 4);
  return `${Number((n / 1000 ** unit).toPrecision(3))} ${["kB", "MB", "GB", "TB"][unit - 1]}`;
}
