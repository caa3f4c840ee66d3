// Small rules: numbers as text, addresses, layouts, profiles, forms.
import { describe, expect, test } from "vitest";
import { bytes, count, middle, number, percent, seconds } from "../src/base/format";
import { placeOf } from "../src/base/url";
import { chosen, mapping } from "../src/appliance/create";
import { layOut } from "../src/plots/layout";
import { frameOf, hotSpots, place } from "../src/plots/flame";
import { tracebackOf } from "../src/cluster/exceptions";

test("numbers are written as people read them", () => {
  expect([0, 999, 1_000, 1_536, 3.21 * 2 ** 30].map(bytes)).toEqual([
    "0 B",
    "999 B",
    "0.98 KiB",
    "1.50 KiB",
    "3.21 GiB",
  ]);
  expect([0, 0.0000015, 0.0123, 3.4, 150, 3_725, 200_000].map(seconds)).toEqual([
    "0 s",
    "1.50 µs",
    "12.3 ms",
    "3.40 s",
    "2 min 30 s",
    "1 h 02 min",
    "2 d 7 h",
  ]);
  expect([5, 12_345, 1_234_567].map(count)).toEqual(["5", "12\u202f345", "1\u202f234\u202f567"]);
  expect([0.5, 3, 1_234.5].map(number)).toEqual(["0.50", "3", "1235"]);
  expect([bytes(null), seconds(undefined), percent(Number.NaN)]).toEqual(["–", "–", "–"]);
  expect(middle("abcdefghij", 7)).toBe("abcd…ij");
});

test("Dask's deep addresses mean our pages", () => {
  const at = (below: string, search = ""): string => {
    const { page, query } = placeOf(below, search);
    return `${page} ${query}`;
  };
  expect(at("info/main/workers.html")).toBe("workers ");
  expect(at("info/worker/tcp%3A%2F%2F10.0.0.1%3A80.html")).toBe(
    `worker ${new URLSearchParams({ address: "tcp://10.0.0.1:80" })}`,
  );
  expect(at("info/task/%28%27x%27%2C%200%29.html")).toBe(`task ${new URLSearchParams({ key: "('x', 0)" })}`);
  expect(at("info/logs/a.html")).toBe("worker address=a&tab=logs");
  expect(at("individual-task-stream")).toBe("individual-task-stream ");
  expect(at("info/task/%E0%A4%A.html")).toContain("task ");
});

describe("a layout", () => {
  const ask = (nodes: number, edges: readonly (readonly [number, number])[]) =>
    layOut({
      id: 1,
      nodes,
      from: Int32Array.from(edges.map(([a]) => a)),
      to: Int32Array.from(edges.map(([, b]) => b)),
    });
  test("puts every task right of what it needs", () => {
    const edges = [
      [0, 2],
      [1, 2],
      [2, 3],
      [0, 3],
    ] as const;
    const { x, layers } = ask(4, edges);
    for (const [from, to] of edges) expect(x[to]).toBeGreaterThan(x[from]!);
    expect(layers).toBe(3);
  });
  test("gives no two tasks one place", () => {
    const edges = Array.from({ length: 60 }, (_, at) => [at, 60 + Math.floor(at / 3)] as const);
    const { x, y } = ask(80, edges);
    expect(new Set(Array.from(x, (value, at) => `${value} ${y[at]}`)).size).toBe(80);
  });
  test("of five thousand tasks is done in a moment, and a circle ends it not", () => {
    const edges = Array.from({ length: 9_000 }, (_, at) => [at % 4_000, 1_000 + ((at * 7) % 4_000)] as const).filter(
      ([a, b]) => a < b,
    );
    const began = performance.now();
    ask(5_000, edges);
    expect(performance.now() - began).toBeLessThan(3_000);
    expect(
      ask(2, [
        [0, 1],
        [1, 0],
      ]).x.length,
    ).toBe(2);
  });
});

describe("a profile", () => {
  const root = frameOf({
    name: "root",
    value: 10,
    children: [
      { name: "a", file: "f", value: 7, children: [{ name: "a", file: "f", value: 4, children: [] }] },
      { name: "b", file: "g", value: 3, children: [] },
    ],
  });
  test("fills the width with its frames", () => {
    const slabs = place(root, 0);
    expect(slabs.map((slab) => [slab.frame.name, slab.left, slab.width, slab.depth])).toEqual([
      ["root", 0, 1, 0],
      ["a", 0, 0.7, 1],
      ["a", 0, 0.4, 2],
      ["b", 0.7, 0.3, 1],
    ]);
  });
  test("counts a function that calls itself once", () => {
    expect(hotSpots(root).map((spot) => [spot.name, spot.own, spot.all])).toEqual([
      ["a", 7, 7],
      ["b", 3, 3],
    ]);
  });
  test("of nonsense is empty", () => {
    expect(frameOf("x").value).toBe(0);
  });
});

test("a form sends only what was touched, in the option's type", () => {
  const options = ["int", "float", "bool", "mapping", "string"].map((type) => ({ field: type, spec: { type } }));
  expect(chosen(options, {})).toEqual({});
  expect(
    chosen(options, { int: "3", float: "1.5", bool: "false", mapping: "A=1\nB=x=y\nnonsense", string: "" }),
  ).toEqual({ int: 3, float: 1.5, bool: false, mapping: { A: "1", B: "x=y" }, string: "" });
  expect(mapping("=x")).toEqual({});
});

test("a traceback is read as lines or as one text", () => {
  expect(tracebackOf({ traceback: ["a\n", "b"] })).toBe("a\nb");
  expect(tracebackOf({ traceback: "whole" })).toBe("whole");
});
