/** Where we are, from the address bar; `go` moves without loading anything. */
class Place {
  path = $state(location.pathname);
  query = $state(new URLSearchParams(location.search));
  /** Asks before the page is left for what it is given; without one, nothing is lost. */
  ask: ((to: string) => void) | undefined;

  read = () => {
    this.path = location.pathname;
    this.query = new URLSearchParams(location.search);
  };
}

export const place = new Place();
addEventListener("popstate", () => {
  const { pathname, search } = location;
  if (!place.ask || pathname === place.path) return place.read();
  history.pushState(null, "", place.path + queryOf(Object.fromEntries(place.query)));
  place.ask(pathname + search);
});

/** `sure`: also when the page would ask before. */
export function go(to: string, replace = false, sure = false): void {
  if (!sure && place.ask && to.split("?")[0] !== place.path) return place.ask(to);
  if (replace) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  const before = place.path;
  place.read();
  if (place.path !== before) scrollTo(0, 0);
}

/** Links inside the dashboard move by `go`; those with a modifier key, to elsewhere, to the API or the documentation, are the browser's. */
addEventListener("click", (event) => {
  const link = (event.target as Element | null)?.closest?.("a");
  if (!link || event.defaultPrevented || event.button !== 0 || link.target || link.hasAttribute("download")) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  if (link.origin !== location.origin || /^\/(api\/|docs(\/|$))/.test(link.pathname)) return;
  event.preventDefault();
  go(link.pathname + link.search);
});

/** The query without empty values, as `?a=b` or nothing. */
export function queryOf(values: Record<string, string | number | null | undefined>): string {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return text && `?${text}`;
}
