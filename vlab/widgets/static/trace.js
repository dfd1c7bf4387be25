// Reads a trace: the bytes of a .vlabtrace file (vlab/trace/file.py has the layout), from a kernel or from disk.

const MAGIC = [0x8f, 0x76, 0x6c, 0x61, 0x62, 0x74, 0x72, 0x0a];
const PREFIX = 24;
const FORMAT = 1;
const WIDTH = { Q: 8, I: 4, H: 2, B: 1 };
const EXIT = 0;

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// A column is stored as planes: the lowest bytes of all values, then the next.
function join(planes, rows, first, width) {
  const values = width === 1 ? new Uint8Array(rows) : width === 2 ? new Uint16Array(rows) : new Uint32Array(rows);
  for (let plane = 0; plane < width; plane++) {
    const start = (first + plane) * rows;
    const shift = 8 * plane;
    for (let row = 0; row < rows; row++) values[row] |= planes[start + row] << shift;
  }
  return values;
}

// Times are stored as differences; the sum is exact up to 2^53 ns, which is 104 days.
function add(low, high) {
  const times = new Float64Array(low.length);
  let time = 0;
  for (let row = 0; row < low.length; row++) times[row] = time += low[row] + high[row] * 2 ** 32;
  return times;
}

export class Trace {
  constructor(header, columns) {
    this.header = header;
    this.metadata = header.metadata;
    this.reasons = header.reasons;
    this.handlers = header.handlers;
    this.columns = columns;
    this.time = columns.time;
    this.kind = columns.kind;
    this.exits = new Uint32Array(columns.kind.filter((kind) => kind === EXIT).length);
    let next = 0;
    for (let row = 0; row < columns.kind.length; row++) if (columns.kind[row] === EXIT) this.exits[next++] = row;
  }

  // How many exits there are.
  get length() {
    return this.exits.length;
  }

  // A 64-bit value of a row: rip, info1, info2.
  wide(name, row) {
    const [low, high] = this.columns[name];
    return (BigInt(high[row]) << 32n) | BigInt(low[row]);
  }

  // All that is known of exit number n, from 0.
  exit(n) {
    const row = this.exits[n];
    const { columns } = this;
    return {
      number: n,
      time: this.time[row],
      reason: this.reasons[columns.reason[row]],
      handler: this.handlers[columns.handler[row]] ?? "",
      rip: this.wide("rip", row),
      info1: this.wide("info1", row),
      info2: this.wide("info2", row),
      mode: columns.mode[row],
      ring: columns.ring[row],
      duration: columns.duration[row],
      vcpu: columns.vcpu[row],
    };
  }
}

// Raises an Error with one sentence for what is no trace, is newer than this reader, or is cut short.
export async function readTrace(source) {
  const bytes = source instanceof DataView
    ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength) : new Uint8Array(source);
  if (bytes.length < PREFIX || MAGIC.some((byte, place) => bytes[place] !== byte)) {
    throw new Error("this is no vlab trace");
  }
  const start = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const format = start.getUint16(8, true);
  if (format !== FORMAT) throw new Error(`the trace has format ${format}, and this vlab reads format ${FORMAT}`);
  const textLength = start.getUint32(12, true);
  if (bytes.length < Number(start.getBigUint64(16, true))) {
    throw new Error("the trace is cut short; copy it again");
  }
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(PREFIX, PREFIX + textLength)));
  const { rows } = header;
  let place = PREFIX + textLength;
  const streams = header.columns.map(([name, code, size]) => {
    const stream = bytes.subarray(place, place + size);
    place += size;
    return [name, WIDTH[code], stream];
  });
  const columns = {};
  await Promise.all(streams.map(async ([name, width, stream]) => {
    const planes = await inflate(stream);
    const low = join(planes, rows, 0, Math.min(width, 4));
    columns[name] = width < 8 ? low : [low, join(planes, rows, 4, 4)];
  }));
  columns.time = add(...columns.time);
  return new Trace(header, columns);
}
