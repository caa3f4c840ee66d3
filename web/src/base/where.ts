// What the server says this is.
import { signal } from "@preact/signals";
import { getJson } from "./http";
import { asRow, str } from "./rows";

export interface Where {
  readonly kind: string;
  readonly name: string;
  /** Whether this page may change anything. */
  readonly actions: boolean;
}

/** Null until the server has answered. */
export const where = signal<Where | null>(null);

/** Asks once. A server that does not say is a cluster. */
export async function askWhere(): Promise<void> {
  try {
    const said = asRow(await getJson("api/where"));
    where.value = { kind: str(said, "kind"), name: str(said, "name"), actions: said.actions !== false };
  } catch {
    where.value = { kind: "cluster", name: "", actions: true };
  }
}
