// Rows of the feed come from outside: every field is read through these, none is trusted to be there.

/** One row of a topic, or any JSON object. */
export type Row = Readonly<Record<string, unknown>>;

/** The rows of one topic by their id. */
export type Rows = ReadonlyMap<string, Row>;

/** A number, or `fallback` (0). */
export function num(row: Row | undefined | null, name: string, fallback = 0): number {
  const value = row?.[name];
  return typeof value === "number" && Number.isFinite(value) ? value : fallback;
}

/** A number, or null where the source has none. */
export function maybe(row: Row | undefined | null, name: string): number | null {
  const value = row?.[name];
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** A text, or `fallback` (""). Numbers are written out. */
export function str(row: Row | undefined | null, name: string, fallback = ""): string {
  const value = row?.[name];
  if (typeof value === "string") return value;
  return typeof value === "number" ? String(value) : fallback;
}

/** An object, or an empty one. */
export function obj(row: Row | undefined | null, name: string): Row {
  const value = row?.[name];
  return value !== null && typeof value === "object" && !Array.isArray(value) ? (value as Row) : {};
}

/** A list, or an empty one. */
export function list(row: Row | undefined | null, name: string): readonly unknown[] {
  const value = row?.[name];
  return Array.isArray(value) ? value : [];
}

/** A list of objects; what is not an object is left out. */
export function rowsOf(row: Row | undefined | null, name: string): Row[] {
  return list(row, name).filter((item): item is Row => item !== null && typeof item === "object");
}

/** Any JSON as an object. */
export function asRow(value: unknown): Row {
  return value !== null && typeof value === "object" && !Array.isArray(value) ? (value as Row) : {};
}
