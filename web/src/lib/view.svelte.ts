import { go, place, queryOf } from "./router.svelte";

type Change = Record<string, string | number | null | undefined>;

/** A list whose filter, order and page are in the address bar. */
export class View {
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** `filters` are what narrows the list; `order` is how it is sorted when nothing is said. */
  constructor(
    private readonly path: string,
    private readonly filters: readonly string[],
    private readonly order = "",
  ) {}

  given = (name: string): string | undefined => place.query.get(name) || undefined;

  get page(): number {
    return Math.max(1, Number(this.given("page")) || 1);
  }

  get sort(): string {
    return this.given("sort") ?? this.order;
  }

  get narrowed(): boolean {
    return this.filters.some(this.given);
  }

  /** Whatever changes the list begins at its first page. */
  show = (change: Change, replace = false): void => {
    const kept = Object.fromEntries([...this.filters, "sort"].map((name) => [name, this.given(name)]));
    go(this.path + queryOf({ ...kept, ...change }), replace);
  };

  sortBy = (column: string): void => this.show({ sort: this.sort === column ? `-${column}` : column });

  /** Waits until nothing was typed for a moment. */
  typed = (q: string): void => {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.show({ q }, true), 200);
  };
}

/** Asks each time it is called; of answers that overtake each other only the one to the last question counts. */
export function latest<T>(ask: () => Promise<T>, take: (answer: T | undefined, error: unknown) => void): () => Promise<void> {
  let asked = 0;
  return async () => {
    const mine = ++asked;
    const [answer, error] = await ask().then((answer) => [answer, undefined] as const, (caught: unknown) => [undefined, caught] as const);
    if (mine === asked) take(answer, error);
  };
}
