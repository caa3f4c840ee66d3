// The task stream without a browser: decoding, retaining, finding, painting.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { decodeBlock, fromBase64, withKind, type Block } from "../src/feed/block";
import { StreamModel } from "../src/stream/model";
import { paintBands, Strip, type Paint } from "../src/stream/raster";
import { NO_FILTER, orderLanes, ticks, Window } from "../src/stream/view";
import { encode, type Rectangle } from "./blocks";

function decoded(list: readonly Rectangle[], flags = 0, px = 0): Block {
  const block = decodeBlock(encode(list, flags, px));
  if (!block) throw new Error("not a block");
  return block;
}

function modelOf(list: readonly Rectangle[], most?: number): StreamModel {
  const model = new StreamModel(most);
  model.add(decoded(list));
  return model;
}

const golden = join(import.meta.dirname, "../../tests/golden/feed/block.json");

test.skipIf(!existsSync(golden))("a block as the scheduler writes it is read as it was meant", () => {
  const said = JSON.parse(readFileSync(golden, "utf8")) as {
    hex: string;
    flags: number;
    first: number;
    next: number;
    px: number;
    rects: Record<string, number>[];
  };
  const bytes = new Uint8Array((said.hex.match(/../g) ?? []).map((pair) => Number.parseInt(pair, 16)));
  const block = decodeBlock(bytes.buffer);
  expect(block).not.toBeNull();
  if (!block) return;
  expect([block.first, block.thinned, block.lowest, block.next, block.px]).toEqual([
    (said.flags & 1) === 1,
    (said.flags & 2) === 2,
    said.first,
    said.next,
    said.px,
  ]);
  const rects = Array.from({ length: block.count }, (_, row) => ({
    start: block.start[row],
    duration: block.duration[row],
    id: block.id[row],
    lane: block.lane[row],
    prefix: block.prefix[row],
    action: block.action[row],
    count: block.merged[row],
  }));
  expect(rects).toEqual(said.rects);
});

describe("a block", () => {
  test("keeps every column", () => {
    const block = decoded([{ start: 1.5e12, duration: 2.5, lane: 3, prefix: 4, merged: 5, action: 6 }], 3, 0.25);
    expect([block.count, block.first, block.thinned, block.px]).toEqual([1, true, true, 0.25]);
    expect([
      block.start[0],
      block.duration[0],
      block.id[0],
      block.lane[0],
      block.prefix[0],
      block.merged[0],
      block.action[0],
    ]).toEqual([1.5e12, 2.5, 0, 3, 4, 5, 6]);
  });
  test("that is cut short, or something else, is refused", () => {
    const whole = encode([
      { start: 1, duration: 1 },
      { start: 2, duration: 1 },
    ]);
    for (let length = 0; length < whole.byteLength; length += 1) expect(decodeBlock(whole.slice(0, length))).toBeNull();
    const other = encode([]);
    new DataView(other).setUint8(1, 9);
    expect(decodeBlock(other)).toBeNull();
  });
  test("comes through base64 without its first byte", () => {
    const whole = new Uint8Array(encode([{ start: 7, duration: 1 }]));
    const text = btoa(String.fromCharCode(...whole.subarray(1)));
    expect(decodeBlock(withKind(fromBase64(text)))?.start[0]).toBe(7);
  });
});

describe("the model", () => {
  test("sorts what comes late", () => {
    const model = modelOf([
      { start: 30, duration: 1 },
      { start: 10, duration: 1 },
      { start: 20, duration: 1 },
    ]);
    expect([...(model.lanes.get(0)?.tasks.start.slice(0, 3) ?? [])]).toEqual([10, 20, 30]);
    expect([model.first, model.last]).toEqual([10, 31]);
  });
  test("keeps transfers apart from tasks", () => {
    const model = modelOf([
      { start: 0, duration: 10 },
      { start: 2, duration: 3, action: 1 },
    ]);
    expect(model.at(0, 3, 0.1, true)?.action).toBe(1);
    expect(model.at(0, 3, 0.1, false)?.action).toBe(0);
  });
  test("finds a long rectangle that began far before, and none where none is", () => {
    const model = modelOf([
      { start: 0, duration: 1_000 },
      { start: 1_001, duration: 1 },
      { start: 1_003, duration: 1 },
    ]);
    expect(model.at(0, 999, 0.1, false)?.start).toBe(0);
    expect(model.at(0, 1_500, 10, false)).toBeNull();
    expect(model.at(9, 1, 10, false)).toBeNull();
  });
  test("drops the oldest when it is full, and stays below its limit", () => {
    const model = new StreamModel(1_000);
    for (let turn = 0; turn < 50; turn += 1) {
      model.add(
        decoded(Array.from({ length: 100 }, (_, at) => ({ start: turn * 100 + at, duration: 0.5, lane: at % 4 }))),
      );
      expect(model.count).toBeLessThanOrEqual(1_000);
    }
    const held = [...model.lanes.values()].reduce((sum, lane) => sum + lane.tasks.length + lane.other.length, 0);
    expect(held).toBe(model.count);
    expect(model.at(0, 4_996.2, 1, false)).not.toBeNull();
  });
  test("begins anew with a first block", () => {
    const model = modelOf([{ start: 1, duration: 1 }]);
    model.add(decoded([{ start: 5, duration: 1 }], 1));
    expect([model.count, model.first]).toEqual([1, 5]);
  });
  test("lists what touches a span, newest first", () => {
    const model = modelOf([
      { start: 0, duration: 5 },
      { start: 10, duration: 5 },
      { start: 20, duration: 5, merged: 7 },
    ]);
    const { hits, total } = model.within(4, 21, 10, () => true);
    expect(hits.map((hit) => hit.start)).toEqual([20, 10, 0]);
    expect(total).toBe(9);
  });
  test("walks from task to task", () => {
    const model = modelOf([
      { start: 0, duration: 1 },
      { start: 10, duration: 1 },
      { start: 20, duration: 1 },
    ]);
    expect(model.beside(0, 10, 1)?.start).toBe(20);
    expect(model.beside(0, 10, -1)?.start).toBe(0);
    expect(model.beside(0, 0, -1)).toBeNull();
  });
});

describe("painting", () => {
  const red = 0xff0000ff;
  const black = 0xff000000;
  const paint = (from: number, span: number, width: number): Paint => ({
    from,
    scale: width / span,
    width,
    prefixes: new Uint32Array(65_536).fill(red),
    actions: new Uint32Array(7).fill(black),
    background: 0xffffffff,
  });
  test("fills exactly the pixels of a rectangle", () => {
    const model = modelOf([{ start: 2, duration: 3 }]);
    const image = new Uint32Array(10 * 4);
    paintBands(image, 4, [{ lane: model.lanes.get(0)!, top: 0, height: 4 }], paint(0, 10, 10), new Strip());
    expect([...image.slice(0, 10)].map((one) => one === red)).toEqual([
      false,
      false,
      true,
      true,
      true,
      false,
      false,
      false,
      false,
      false,
    ]);
    expect([...image.slice(30, 40)]).toEqual([...image.slice(0, 10)]);
  });
  test("shows half cover as a lighter colour, and a failure always", () => {
    const model = modelOf([
      { start: 0, duration: 0.5 },
      { start: 5, duration: 0.0001, action: 6 },
    ]);
    const image = new Uint32Array(10);
    paintBands(image, 1, [{ lane: model.lanes.get(0)!, top: 0, height: 1 }], paint(0, 10, 10), new Strip());
    expect(image[0]).not.toBe(red);
    expect((image[0]! >>> 8) & 255).toBeGreaterThan(50);
    expect(image[5]).toBe(black);
  });
  test("leaves out what a filter gives no colour", () => {
    const model = modelOf([{ start: 0, duration: 10, prefix: 1 }]);
    const image = new Uint32Array(10);
    const filtered = paint(0, 10, 10);
    filtered.prefixes[1] = 0;
    paintBands(image, 1, [{ lane: model.lanes.get(0)!, top: 0, height: 1 }], filtered, new Strip());
    expect(image.every((one) => one === 0)).toBe(true);
  });
  test("of a million rectangles takes little longer than one of a hundred thousand", () => {
    const lanes = 16;
    const image = new Uint32Array(1_200 * 320);
    /** The quickest of three: a busy machine only ever makes it slower. */
    const quickest = (blocks: number): number => {
      const model = new StreamModel();
      for (let turn = 0; turn < blocks; turn += 1) {
        model.add(
          decoded(
            Array.from({ length: 100_000 }, (_, at) => ({
              start: turn * 6_250 + Math.floor(at / lanes),
              duration: 0.8,
              lane: at % lanes,
              prefix: at % 9,
            })),
          ),
        );
      }
      expect(model.count).toBe(blocks * 100_000);
      const bands = [...model.lanes.values()].map((lane, at) => ({ lane, top: at * 20, height: 20 }));
      const strip = new Strip();
      const times = [0, 1, 2, 3].map(() => {
        const began = performance.now();
        paintBands(image, 320, bands, paint(0, blocks * 6_250, 1_200), strip);
        return performance.now() - began;
      });
      return Math.min(...times);
    };
    const few = quickest(1);
    expect(quickest(10)).toBeLessThan(few * 5 + 20);
  }, 60_000);
});

describe("the window", () => {
  test("stays with the last activity where nothing happens any more", () => {
    const model = modelOf([{ start: 1_000, duration: 500 }]);
    const view = new Window();
    view.follow(model, 60_000_000);
    expect(view.from).toBeLessThan(1_000);
    expect(view.to).toBeGreaterThan(1_500);
    expect(view.span).toBe(1_000);
  });
  test("zooms around the pointer", () => {
    const view = new Window();
    view.show(0, 100);
    view.zoom(0.5, 0.25);
    expect([view.from, view.to]).toEqual([12.5, 62.5]);
  });
  test("orders lanes as people count, and hides workers that left no trace", () => {
    const lanes = new Map(
      ["w10", "w9", "gone", "left"].map((name, at) => [
        String(at),
        { worker: `tcp://${name}`, name, host: "h", n: 0, alive: at < 2 },
      ]),
    );
    const order = orderLanes(lanes, NO_FILTER, (lane) => lane === 3);
    expect(order.map((lane) => lane.name)).toEqual(["left", "w9", "w10"]);
  });
  test("labels the axis with times that can be told apart", () => {
    for (const span of [0.5, 20, 3_000, 90_000, 7_200_000]) {
      const labels = ticks(1.7e12, span, 900).map((tick) => tick.label);
      expect(labels.length).toBeGreaterThan(2);
      expect(new Set(labels).size).toBe(labels.length);
    }
  });
});
