// A block of the task stream as it comes over the wire: columns, little endian. Typed arrays look straight into the
// message, nothing is copied.

/** Rectangles by column. Times are milliseconds since the epoch. */
export interface Block {
  readonly count: number;
  /** Replace all that is held. */
  readonly first: boolean;
  /** Some rectangles stand for several. */
  readonly thinned: boolean;
  /** Ids below this are no longer known to the server. */
  readonly lowest: number;
  readonly next: number;
  /** Seconds per pixel that it was thinned for; 0 for not at all. */
  readonly px: number;
  readonly start: Float64Array;
  readonly duration: Float32Array;
  readonly id: Uint32Array;
  readonly lane: Uint16Array;
  readonly prefix: Uint16Array;
  readonly merged: Uint16Array;
  readonly action: Uint8Array;
}

const HEAD_BYTES = 24;
const ROW_BYTES = 8 + 4 + 4 + 2 + 2 + 2 + 1;

/** Decodes a message of kind 2, or null if it is not one. */
export function decodeBlock(buffer: ArrayBuffer): Block | null {
  if (buffer.byteLength < HEAD_BYTES) return null;
  const head = new DataView(buffer, 0, HEAD_BYTES);
  if (head.getUint8(0) !== 2 || head.getUint8(1) !== 1) return null;
  const count = head.getUint32(4, true);
  if (buffer.byteLength < HEAD_BYTES + count * ROW_BYTES) return null;
  const flags = head.getUint8(2);
  let at = HEAD_BYTES;
  const take = (width: number): number => {
    const here = at;
    at += width * count;
    return here;
  };
  return {
    count,
    first: (flags & 1) !== 0,
    thinned: (flags & 2) !== 0,
    lowest: head.getUint32(8, true),
    next: head.getUint32(12, true),
    px: head.getFloat64(16, true),
    start: new Float64Array(buffer, take(8), count),
    duration: new Float32Array(buffer, take(4), count),
    id: new Uint32Array(buffer, take(4), count),
    lane: new Uint16Array(buffer, take(2), count),
    prefix: new Uint16Array(buffer, take(2), count),
    merged: new Uint16Array(buffer, take(2), count),
    action: new Uint8Array(buffer, take(1), count),
  };
}

/** Bytes from base64, for transports that carry only text. */
export function fromBase64(text: string): ArrayBuffer {
  const raw = atob(text);
  const out = new Uint8Array(raw.length);
  for (let at = 0; at < raw.length; at += 1) out[at] = raw.charCodeAt(at);
  return out.buffer;
}

/** A kind 2 message whose first byte was left out (server-sent events). */
export function withKind(body: ArrayBuffer): ArrayBuffer {
  const out = new Uint8Array(body.byteLength + 1);
  out[0] = 2;
  out.set(new Uint8Array(body), 1);
  return out.buffer;
}
