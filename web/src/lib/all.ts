/** The entries of a list, with how many there are. */
export interface Every<T> {
  all: T[];
  total: number;
}

/** Every entry of a list, page by page; at most `pages` pages, so that no list fills the browser. */
export async function all<T>(ask: (page: number) => Promise<{ data: T[]; total: number; total_pages: number }>, pages = 30): Promise<Every<T>> {
  const first = await ask(1);
  const found = [...first.data];
  for (let page = 2; page <= Math.min(first.total_pages, pages); page++) found.push(...(await ask(page)).data);
  return { all: found, total: first.total };
}

/** A node of a tree that is drawn from what names its parent. */
export interface Branch<T> {
  item: T;
  under: Branch<T>[];
}

/** What has no parent among the items stands at the top. */
export function tree<T extends { id: string; name: string }>(items: readonly T[], parent: (item: T) => string | null | undefined): Branch<T>[] {
  const branches = new Map(items.map((item) => [item.id, { item, under: [] as Branch<T>[] }]));
  const top: Branch<T>[] = [];
  for (const branch of [...branches.values()].sort((a, b) => a.item.name.localeCompare(b.item.name))) {
    (branches.get(parent(branch.item) ?? "")?.under ?? top).push(branch);
  }
  return top;
}
