// The delta rule, on the same files that the scheduler's side is held to.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { apply, changeOf } from "../src/feed/delta";
import { asRow, type Row } from "../src/base/rows";

const folder = join(import.meta.dirname, "../../tests/golden/feed");
const files = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(".json")) : [];

function rowsOf(value: unknown): Map<string, Row> {
  return new Map(Object.entries(asRow(value)).map(([id, row]) => [id, asRow(row)]));
}

const lists = files
  .map((file) => [file, JSON.parse(readFileSync(join(folder, file), "utf8")) as unknown] as const)
  .filter(([, read]) => Array.isArray(read));

describe.each(lists)("%s", (_, read) => {
  const cases = read as { name: string; old: unknown; change: unknown; new: unknown }[];
  test.each(cases)("$name", (one) => {
    const old = rowsOf(one.old);
    const after = apply(old, changeOf(one.change));
    expect(Object.fromEntries(after)).toEqual(one.new);
    expect(Object.fromEntries(old)).toEqual(one.old);
  });
});

test("a deleted row does not come back with its old fields when it is put in the same change", () => {
  const after = apply(rowsOf({ a: { x: 1, y: 2 } }), changeOf({ del: ["a"], put: { a: { x: 3 } } }));
  expect(Object.fromEntries(after)).toEqual({ a: { x: 3 } });
});

test("rows that did not change keep their identity, so that nothing else is drawn again", () => {
  const old = rowsOf({ a: { x: 1 }, b: { x: 2 } });
  const after = apply(old, changeOf({ put: { b: { x: 3 } } }));
  expect(after.get("a")).toBe(old.get("a"));
  expect(after.get("b")).not.toBe(old.get("b"));
});

test("nonsense from outside changes nothing", () => {
  const old = rowsOf({ a: { x: 1 } });
  for (const nonsense of [null, 3, "x", [], { put: 5, del: {} }])
    expect(Object.fromEntries(apply(old, changeOf(nonsense)))).toEqual({ a: { x: 1 } });
});
