// Layout of a task graph: layers by the longest way from the sources, order within a layer by the mean of the
// neighbours. Pure; runs in a worker thread where the browser allows one.

/** Edges as index pairs `from[i] -> to[i]`. */
export interface LayoutAsk {
  readonly id: number;
  readonly nodes: number;
  readonly from: Int32Array;
  readonly to: Int32Array;
}

/** Positions: `x` counts layers, `y` places within the layer, both in whole steps from 0. */
export interface LayoutAnswer {
  readonly id: number;
  readonly x: Float32Array;
  readonly y: Float32Array;
  readonly layers: number;
  readonly tallest: number;
  /** Room to the right of a node. Unit: layers. */
  readonly room: number;
}

/** Passes over the layers; more changes little. */
const SWEEPS = 6;
/** A layer up to here is never wrapped. Unit: tasks. */
const ROWS_LEAST = 40;
/** Rows for each column, so that large graphs get about the shape of a screen. */
const ROWS_PER_COLUMN = 3;
/** Between two columns of one layer. Unit: layers. */
const COLUMN_STEP = 0.3;

/** Answers layouts when this script runs as a worker. */
export function serveLayouts(): void {
  const scope = globalThis as unknown as {
    onmessage: (event: MessageEvent<LayoutAsk>) => void;
    postMessage(answer: LayoutAnswer, move: Transferable[]): void;
  };
  scope.onmessage = (event) => {
    const answer = layOut(event.data);
    scope.postMessage(answer, [answer.x.buffer as ArrayBuffer, answer.y.buffer as ArrayBuffer]);
  };
}

/** Lays out one graph. Cycles (which a task graph has not) are cut where they are met. */
export function layOut(ask: LayoutAsk): LayoutAnswer {
  const after = neighbours(ask.nodes, ask.from, ask.to);
  const before = neighbours(ask.nodes, ask.to, ask.from);
  const layer = layersOf(ask.nodes, after, before);
  const depth = layer.reduce((most, one) => Math.max(most, one), -1) + 1;
  const layers = Array.from({ length: depth }, (): number[] => []);
  for (const node of depthFirst(ask.nodes, before, after)) layers[layer[node] as number]?.push(node);
  const place = new Float32Array(ask.nodes);
  const settle = (row: number[]): void => {
    const shift = -row.length / 2;
    for (const [index, node] of row.entries()) place[node] = index + shift;
  };
  layers.forEach(settle);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const down = sweep % 2 === 0;
    for (let step = 1; step < layers.length; step += 1) {
      const row = layers[down ? step : layers.length - 1 - step] as number[];
      const mean = meanPlaces(row, down ? before : after, place);
      row.sort((a, b) => (mean.get(a) as number) - (mean.get(b) as number));
      settle(row);
    }
  }
  return finish(ask, layers, place);
}

type Neighbours = { readonly first: Int32Array; readonly of: Int32Array };

function neighbours(nodes: number, from: Int32Array, to: Int32Array): Neighbours {
  const first = new Int32Array(nodes + 1);
  for (const node of from) first[node + 1] = (first[node + 1] as number) + 1;
  for (let node = 0; node < nodes; node += 1) first[node + 1] = (first[node + 1] as number) + (first[node] as number);
  const fill = first.slice();
  const of = new Int32Array(from.length);
  from.forEach((node, edge) => {
    const at = fill[node] as number;
    of[at] = to[edge] as number;
    fill[node] = at + 1;
  });
  return { first, of };
}

function each(set: Neighbours, node: number, visit: (other: number) => void): void {
  for (let at = set.first[node] as number; at < (set.first[node + 1] as number); at += 1) visit(set.of[at] as number);
}

function layersOf(nodes: number, after: Neighbours, before: Neighbours): Int32Array {
  const layer = new Int32Array(nodes);
  const missing = new Int32Array(nodes);
  const ready: number[] = [];
  for (let node = 0; node < nodes; node += 1) {
    missing[node] = (before.first[node + 1] as number) - (before.first[node] as number);
    if (missing[node] === 0) ready.push(node);
  }
  for (let at = 0; at < ready.length; at += 1) {
    const node = ready[at] as number;
    each(after, node, (next) => {
      layer[next] = Math.max(layer[next] as number, (layer[node] as number) + 1);
      missing[next] = (missing[next] as number) - 1;
      if (missing[next] === 0) ready.push(next);
    });
  }
  return layer;
}

/** Nodes so that what belongs together comes together: a good first order. */
function depthFirst(nodes: number, before: Neighbours, after: Neighbours): Int32Array {
  const seen = new Uint8Array(nodes);
  const order = new Int32Array(nodes);
  let count = 0;
  for (let root = nodes - 1; root >= 0; root -= 1) {
    // Start at the results: their inputs are then placed beside one another.
    if (seen[root] || (after.first[root + 1] as number) > (after.first[root] as number)) continue;
    const stack = [root];
    while (stack.length > 0) {
      const node = stack.pop() as number;
      if (seen[node]) continue;
      seen[node] = 1;
      order[count] = node;
      count += 1;
      each(before, node, (next) => void (seen[next] || stack.push(next)));
    }
  }
  for (let node = 0; node < nodes; node += 1) {
    if (seen[node]) continue;
    order[count] = node;
    count += 1;
  }
  return order;
}

function meanPlaces(row: readonly number[], set: Neighbours, place: Float32Array): Map<number, number> {
  const mean = new Map<number, number>();
  for (const node of row) {
    let sum = 0;
    let count = 0;
    each(set, node, (other) => {
      sum += place[other] as number;
      count += 1;
    });
    mean.set(node, count > 0 ? sum / count : (place[node] as number));
  }
  return mean;
}

/** Positions from the order within layers. A layer with very many tasks is wrapped into columns, row by row. */
function finish(ask: LayoutAsk, layers: readonly number[][], place: Float32Array): LayoutAnswer {
  const x = new Float32Array(ask.nodes);
  const y = new Float32Array(ask.nodes);
  const tallest = Math.max(ROWS_LEAST, Math.ceil(Math.sqrt(ask.nodes * ROWS_PER_COLUMN)));
  let left = 0;
  let most = 1;
  let room = 1;
  for (const row of layers) {
    const columns = Math.ceil(row.length / tallest);
    if (columns > 1) room = COLUMN_STEP;
    most = Math.max(most, Math.ceil(row.length / Math.max(1, columns)));
    row.forEach((node, index) => {
      x[node] = left + (index % Math.max(1, columns)) * COLUMN_STEP;
      // Few tasks keep the place that their neighbours gave them; wrapped ones stand in rows around the middle.
      y[node] = columns > 1 ? Math.floor(index / columns) - row.length / columns / 2 : (place[node] as number);
    });
    left += 1 + Math.max(0, columns - 1) * COLUMN_STEP;
  }
  return { id: ask.id, x, y: y.map((value) => value + most / 2), layers: Math.max(1, left), tallest: most, room };
}
