// Makes blocks of the task stream for tests: the writer's side of src/feed/block.ts.

export interface Rectangle {
  readonly start: number;
  readonly duration: number;
  readonly lane?: number;
  readonly prefix?: number;
  readonly merged?: number;
  readonly action?: number;
}

/** The bytes of a block, as section 3 of the feed's contract lays them out. */
export function encode(list: readonly Rectangle[], flags = 0, px = 0): ArrayBuffer {
  const n = list.length;
  const buffer = new ArrayBuffer(24 + 23 * n);
  const view = new DataView(buffer);
  view.setUint8(0, 2);
  view.setUint8(1, 1);
  view.setUint8(2, flags);
  view.setUint32(4, n, true);
  view.setUint32(12, n, true);
  view.setFloat64(16, px, true);
  list.forEach((one, row) => {
    view.setFloat64(24 + 8 * row, one.start, true);
    view.setFloat32(24 + 8 * n + 4 * row, one.duration, true);
    view.setUint32(24 + 12 * n + 4 * row, row, true);
    view.setUint16(24 + 16 * n + 2 * row, one.lane ?? 0, true);
    view.setUint16(24 + 18 * n + 2 * row, one.prefix ?? 0, true);
    view.setUint16(24 + 20 * n + 2 * row, one.merged ?? 1, true);
    view.setUint8(24 + 22 * n + row, one.action ?? 0);
  });
  return buffer;
}
