// THE delta rule: how a change is applied to a topic. The scheduler has the same rule in Rust; both are held to
// tests/golden/feed/*.json.
import { asRow, type Row, type Rows } from "../base/rows";

/** What a message says of one topic: everything, or what changed. */
export interface Change {
  readonly full?: Readonly<Record<string, Row>>;
  readonly put?: Readonly<Record<string, Row>>;
  readonly del?: readonly string[];
}

/** Most rows that a topic may hold here; the server's own limits are lower. Unit: rows. */
const ROWS_MAX = 200_000;

/** The rows after the change. `old` stays as it was; rows that did not change keep their identity. */
export function apply(old: Rows, change: Change): Rows {
  if (change.full) return new Map(Object.entries(change.full).map(([id, row]) => [id, asRow(row)]));
  const next = new Map(old);
  for (const id of change.del ?? []) next.delete(id);
  for (const [id, fields] of Object.entries(change.put ?? {})) {
    if (next.size >= ROWS_MAX && !next.has(id)) break;
    next.set(id, { ...next.get(id), ...asRow(fields) });
  }
  return next;
}

/** Reads a change out of any JSON; what is not a change is empty. */
export function changeOf(value: unknown): Change {
  const from = asRow(value);
  if (from.full !== undefined) return { full: asRow(from.full) as Record<string, Row> };
  const del = Array.isArray(from.del) ? from.del.map(String) : [];
  return { put: asRow(from.put) as Record<string, Row>, del };
}
